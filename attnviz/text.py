"""Text before any tokenizer: what can be read at all, where its words are, and how to show what is invisible."""

from __future__ import annotations

import unicodedata
from itertools import pairwise
from typing import Any

import regex
from sentencex import segment

from attnviz.errors import TextError

Span = tuple[int, int]

_BOUNDARY = regex.compile(r"(?w)\b")
_NON_SPACE = regex.compile(r"\S+")
_REFUSED = regex.compile(r"[\p{Cs}[\p{Cc}--[\t\n\r]]]", regex.V1)

# What a screen draws as nothing, or uses to reorder what stands around it. The Arabic number signs are Cf but drawn.
_HIDDEN_SET = (
    r"[[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\u2800]"
    r"--[\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd]]"
)
_JOINING_SCRIPTS = (
    r"\p{Arab}\p{Syrc}\p{Nkoo}\p{Mong}\p{Mand}\p{Adlm}\p{Deva}\p{Beng}\p{Guru}\p{Gujr}\p{Orya}\p{Taml}\p{Telu}"
    r"\p{Knda}\p{Mlym}\p{Sinh}\p{Khmr}\p{Mymr}\p{Tibt}"
)
_DRAWN_MARK = rf"[\p{{M}}--{_HIDDEN_SET}]"
# Invisible characters that shape what is drawn stay; the same ones anywhere else are shown as marks, one by one, since
# runs of variation selectors and tags are a known way of hiding text.
_SHAPING = "|".join(
    (
        r"(?<=[\p{Extended_Pictographic}\p{Emoji_Modifier}\ufe0f])\u200d(?=\p{Extended_Pictographic})",
        rf"(?<=[{_JOINING_SCRIPTS}]\p{{Mn}}{{0,8}})[\u200c\u200d]",
        r"(?<=[\p{Emoji}\p{S}\p{P}\p{Han}\p{Mongolian}\p{Myanmar}\p{Phags_Pa}])[\ufe00-\ufe0f\U000e0100-\U000e01ef]",
        r"(?<=\p{Mongolian})[\u180b-\u180d\u180f]",
        r"(?<=\U0001f3f4)[\U000e0030-\U000e0039\U000e0061-\U000e007a]{3,6}\U000e007f",
        rf"(?<=[\p{{L}}\p{{M}}])\u034f(?={_DRAWN_MARK})",
    )
)
_TO_SHOW = regex.compile(
    rf"(?P<shaping>{_SHAPING})|(?P<space>\p{{Zs}})|(?P<hidden>{_HIDDEN_SET})(?P<mark>(?={_DRAWN_MARK}))?", regex.V1
)
_MARK_FIRST = regex.compile(_DRAWN_MARK, regex.V1)
_NAMED = {"\n": "↵", "\t": "⇥", "\r": "␍", "\x7f": "␡"}


def check_text(text: object, *, max_chars: int | None = None) -> str:
    """Return `text` if a tokenizer can take it.

    max_chars: most characters (code points) allowed; None for no limit. Raises TextError when it is not a string, is
    empty or only whitespace, is too long, or holds lone surrogates or control characters other than tab, line feed and
    carriage return. Positions in messages count from 1.
    """
    if not isinstance(text, str):
        raise TextError(f"Expected a text (str), got {type(text).__name__}. Pass one string.")
    if not text:
        raise TextError("Expected a text, got an empty one. Write at least one word.")
    if not text.strip():
        raise TextError(
            f"Expected a text, got {len(text)} whitespace characters and nothing else; "
            "a text of whitespace only counts as empty. Write at least one word."
        )
    if max_chars is not None and len(text) > max_chars:
        raise TextError(f"Expected at most {max_chars} characters, got {len(text)}. Shorten the text.")
    if bad := _REFUSED.search(text):
        char, where = bad.group(), bad.start() + 1
        if unicodedata.category(char) == "Cs":
            raise TextError(
                f"Expected Unicode text, got a lone surrogate U+{ord(char):04X} at character {where}. "
                "Half of a character is missing there: remove it, or copy the text again from its source."
            )
        raise TextError(
            f"Expected text without control characters, got U+{ord(char):04X} at character {where}. "
            "Remove it; only tabs and line breaks are allowed."
        )
    return text


def words(text: str) -> list[Span]:
    """Spans of the words of `text`, in order, by Unicode word segmentation (UAX #29).

    Whitespace is left out and every other character lies in exactly one word. A punctuation mark, a Han character and
    a joined emoji are each a word; so is "don't".
    """
    bounds = [match.start() for match in _BOUNDARY.finditer(text)]
    # UAX #29 joins invisible format characters to a space before them, so a segment can still hold whitespace.
    return [found.span() for a, b in pairwise(bounds) for found in _NON_SPACE.finditer(text, a, b)]


def sentences(text: str) -> list[Span]:
    """Spans of the sentences of `text`, in order; together they are the whole text.

    Found by sentencex, by the rules of English, which also know the full stops of other scripts (。！？।). White space
    belongs to the sentence before it.
    """
    spans: list[Span] = []
    at = 0
    for piece in segment("en", text):
        if spans and not piece.strip():
            spans[-1] = (spans[-1][0], at + len(piece))
        else:
            spans.append((at, at + len(piece)))
        at += len(piece)
    return spans


def visible(text: str) -> str:
    """`text` with everything invisible made visible: spaces ␣, line feeds ↵, tabs ⇥, carriage returns ␍, other C0
    controls as control pictures, and other invisible or reordering characters as ⟨U+202E⟩.

    Joiners and variation selectors stay where they shape an emoji or a letter. A combining mark with no base gets a ◌,
    so that it cannot sit on whatever the page shows before it. Not empty unless `text` is.
    """
    if text.isascii() and text.isprintable():
        return text.replace(" ", "␣")
    shown: str = _TO_SHOW.sub(_show, text)
    return "◌" + shown if _MARK_FIRST.match(text) else shown


def _show(match: Any) -> str:
    char: str = match.group()
    if match["shaping"]:
        return char
    if match["space"]:
        return "␣"
    code = ord(char)
    mark = _NAMED.get(char) or (chr(0x2400 + code) if code < 0x20 else f"⟨U+{code:04X}⟩")
    return mark if match["mark"] is None else mark + "◌"
