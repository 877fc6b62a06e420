"""What is written about single heads, in papers that name them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, cast

from attnviz.edits import Head
from attnviz.info import ModelInfo

_FILE = Path(__file__).resolve().parents[3] / "assets" / "known_heads.json"


@cache
def _sources() -> list[dict[str, Any]]:
    """models, source, measured, and roles: role, words, heads as [layer, head]."""
    return cast(list[dict[str, Any]], json.loads(_FILE.read_text("utf-8")))


def known_words(info: ModelInfo, name: str, head: Head) -> str:
    """What papers say about one head of a model, in a sentence or two.

    name   that the model was opened by
    """
    mine = [source for source in _sources() if {info.name, name} & set(source["models"])]
    if not mine:
        return "Nothing published about this model's heads is known here."
    said = [
        f"{role['role'].capitalize()} head: it {role['words']} ({source['source']}; {source['measured']})."
        for source in mine
        for role in source["roles"]
        if [head.layer, head.head] in role["heads"]
    ]
    where = "; ".join(source["source"] for source in mine)
    return " ".join(said) or f"L{head.layer}H{head.head} is not among the heads that have a name in {where}."
