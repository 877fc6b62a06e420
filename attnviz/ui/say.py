"""Words on the page. Whatever a person, a model or an address brought is escaped here, and nowhere forgotten."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

import streamlit as st

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-.!|~<>$:&\"'=/^@])")
# Addresses become links after unescaping, so they are broken by a word joiner, which nobody sees.
_ADDRESS = re.compile(r"(?i)(https?:|www(?=\.)|@|mailto:|xmpp:)")
_TURNING = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")  # would reorder what stands around them


def plain(text: str) -> str:
    """Text that Streamlit's Markdown shows as it is: no links, images, formulas or directives of its own."""
    return _MARKDOWN.sub(r"\\\1", _ADDRESS.sub("\\1\u2060", _in_order(text).replace("\n", " ")))


def caption(*sentences: str) -> None:
    """What a picture shows and what it does not, in small print."""
    st.html(f'<p class="attnviz-caption">{html.escape(_in_order(" ".join(filter(None, sentences))))}</p>')


def problem(error: Exception) -> None:
    """An error as a plain sentence with its remedy."""
    st.error(plain(str(error)), icon=":material/error:")


def notes(problems: Iterable[str]) -> None:
    """What could not be taken from the address, and that a default stands for it."""
    listed = list(problems)
    if listed:
        said = "; ".join(listed)
        st.warning(plain(said[:1].upper() + said[1:] + ". A default is shown instead."), icon=":material/link_off:")


def _in_order(text: str) -> str:
    """The text with what would reorder it, and the page's own words with it, written out: ⟨U+202E⟩."""
    return _TURNING.sub(lambda match: f"⟨U+{ord(match[0]):04X}⟩", text)
