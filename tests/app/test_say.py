"""Words from outside, made harmless for Streamlit's Markdown."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from attnviz.ui.say import plain

TURNING = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
SPECIAL = set("\\`*_{}[]()#+-.!|~<>$:&\"'=/^@")


def unescaped(text: str) -> str:
    """What a Markdown reader makes of backslash escapes."""
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text)


@pytest.mark.parametrize("code", [0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)])
def test_what_reorders_the_words_around_it_is_written_out(code: int) -> None:
    assert unescaped(plain(f"a{chr(code)}b")) == f"a⟨U+{code:04X}⟩b"


@given(st.text(max_size=80).filter(lambda text: not TURNING.search(text)))
@example("\\")
@example("\\\\*a*")
@example("a\nb\n\n# c")
@example(":material/home: $x$ ![i](http://evil.example/x.png) <img src=x onerror=alert(1)>")
@example(":red[x] :blue-background[y] https://evil.example www.evil.example a@b.example ~~x~~ | a | b |")
def test_every_special_character_is_escaped_and_nothing_else_changes(text: str) -> None:
    made = plain(text)
    # A word joiner, which nobody sees, may keep an address from becoming a link.
    assert unescaped(made).replace("\u2060", "") == text.replace("\n", " ").replace("\u2060", "")
    bare = re.sub(r"\\[!-/:-@\[-`{-~]", "", made)
    assert SPECIAL.isdisjoint(bare)
    assert "\n" not in made


@pytest.mark.parametrize("text", ["1. one", "- one", "+ one", "# one", "> one", "    one", "---", "===", "1) one"])
def test_a_line_is_no_list_heading_quote_or_rule(text: str) -> None:
    assert re.match(r"\s{0,3}([-+*#>=]|\d+[.)])", plain(text)) is None
