"""Words on the page. Whatever a person, a model or an address brought is escaped here, and nowhere forgotten."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

import streamlit as st

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-.!|~<>$:&\"'=/^@])")


def plain(text: str) -> str:
    """Text that Streamlit's Markdown shows as it is: no links, images, formulas or directives of its own."""
    return _MARKDOWN.sub(r"\\\1", text.replace("\n", " "))


def caption(*sentences: str) -> None:
    """What a picture shows and what it does not, in small print."""
    st.html(f'<p class="attnviz-caption">{html.escape(" ".join(sentences))}</p>')


def problem(error: Exception) -> None:
    """An error as a plain sentence with its remedy."""
    st.error(plain(str(error)), icon=":material/error:")


def notes(problems: Iterable[str]) -> None:
    """What could not be taken from the address, and that a default stands for it."""
    listed = list(problems)
    if listed:
        st.warning(plain("; ".join(listed).capitalize() + ". A default is shown instead."), icon=":material/link_off:")
