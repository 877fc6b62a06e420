"""What of a page's view stands in no address: packed into a finding when it is kept, and put back when it is opened.

Drafts of two pages hold keys of this server, which mean nothing on another one and open what they name to whoever has
them: in a finding the texts themselves stand in their place. What somebody else wrote there is checked whole.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import get_args

import streamlit as st
from pydantic import ValidationError

from attnviz.bertviz_views import Kind
from attnviz.errors import AttnvizError
from attnviz.findings import Seen
from attnviz.ui.gaze.draft import Gaze
from attnviz.ui.session import stores, text_of
from attnviz.ui.steering.plan import Plan

LINES_ONE, BERTVIZ_KIND = "lines-one-query", "attnviz_bertviz_kind"
MOST_CHARS = 50_000  # of a table that goes along
# page -> the name in a finding's parameters -> where the session holds it, and what it may be
_HELD: Mapping[str, Mapping[str, tuple[str, Mapping[str, Hashable]]]] = {
    "Lines": {"only_query": (LINES_ONE, {"yes": True, "no": False})},
    "BertViz": {"drawn_as": (BERTVIZ_KIND, {name: name for name in (*get_args(Kind), "products")})},
}


def held(page: str) -> dict[str, str]:
    """What the session holds of this page's view, in words for a finding's parameters."""
    return {
        name: word
        for name, (key, values) in _HELD.get(page, {}).items()
        for word, value in values.items()
        if st.session_state.get(key) == value
    }


def packed(page: str, texts: Mapping[str, str]) -> dict[str, str]:
    """A finding's texts with this page's draft such that it holds no keys: reading times go along as tables."""
    out = dict(texts)
    try:
        if page == "Gaze" and "gaze" in out:
            draft = Gaze.model_validate_json(out.pop("gaze"))
            small = [table for table in draft.tables if 0 < len(text_of(table.key)) <= MOST_CHARS]
            out |= {f"table {number}": text_of(table.key) for number, table in enumerate(small, 1)}
            tables = [table.model_copy(update={"key": _name(number)}) for number, table in enumerate(small, 1)]
            out["gaze"] = draft.model_copy(update={"tables": tuple(tables)}).model_dump_json()
        elif page == "Steering" and "plan" in out:
            out["plan"] = Plan.model_validate_json(out.pop("plan")).model_copy(update={"text": ""}).model_dump_json()
    except (ValidationError, AttnvizError):
        pass  # a draft that cannot be read: the page shows none either
    return out


def unpacked(seen: Seen, kept: Mapping[str, str]) -> dict[str, str]:
    """For callbacks: field of the Selection -> key of its draft, with the keys that it needs here.

    kept   keys of the finding's texts, as they were put into the store
    """
    try:
        if seen.page == "Gaze" and "gaze" in kept:
            draft = Gaze.model_validate_json(seen.texts["gaze"])
            texts = {_name(number): text for number in range(1, 21) if (text := seen.texts.get(f"table {number}"))}
            tables = [
                table.model_copy(update={"key": stores().texts.put(texts[table.key])})
                for table in draft.tables
                if table.key in texts
            ]
            return {"gaze": stores().texts.put(draft.model_copy(update={"tables": tuple(tables)}).model_dump_json())}
        if seen.page == "Steering" and "plan" in kept:
            plan = Plan.model_validate_json(seen.texts["plan"]).model_copy(update={"text": kept["text"]})
            return {"plan": stores().texts.put(plan.model_dump_json())}
    except (ValidationError, AttnvizError):
        pass  # the page says that it cannot be read
    return {}


def hold(seen: Seen) -> None:
    """For callbacks: make the session hold what the finding's view had."""
    for name, (key, values) in _HELD.get(seen.page, {}).items():
        value = values.get(seen.params.get(name, ""))
        if value is not None:
            st.session_state[key] = value


def _name(number: int) -> str:
    """Of a table in a finding, in place of its key."""
    return f"table-of-finding-{number}"
