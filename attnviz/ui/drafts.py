"""What a person makes on a page, beyond what fits an address: kept in the text store, its key in the Selection.

A draft is a value: each change is a new text under a new key, so that Back restores what was there before, and a link
shows what it showed. Anybody can write a link, so a draft is checked whole before anything of it is believed.
"""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from attnviz.errors import InputError
from attnviz.settings import settings
from attnviz.ui.session import DRAFTS, note, select, selection, stores


class Draft(BaseModel):
    """What every draft is: frozen, and without fields that nobody knows."""

    model_config = ConfigDict(frozen=True, extra="forbid")


_Kind = TypeVar("_Kind", bound=Draft)


def read(kind: type[_Kind], name: str) -> _Kind:
    """The draft behind this field of the Selection, one of DRAFTS; the empty one, with a note, for what is none."""
    assert name in DRAFTS
    key = getattr(selection(), name)
    text = stores().texts.get(key) if key else None
    if text is not None:
        try:
            return kind.model_validate_json(text)
        except ValidationError:
            note(f"the {name} behind this link cannot be read")
            select(**{name: ""})
    return kind()


def keep(name: str, draft: Draft) -> None:
    """Make this the draft of the Selection; for callbacks. InputError for one that is too large to keep."""
    assert name in DRAFTS
    text = draft.model_dump_json()
    most = settings().text_store_bytes // 40  # a tenth of the store, at four bytes a character
    if len(text) > most:
        raise InputError(f"This has {len(text):,} characters, and at most {most:,} can be kept here: take some away.")
    select(**{name: stores().texts.put(text)})
