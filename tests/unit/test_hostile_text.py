"""Ten thousand strings made by hypothesis, and the worst known ones, through every encoder between a text and a page.

What a browser, a notebook, a spreadsheet or Python reads is the text again, and never anything more.
"""

import ast
import csv
import html
import html.parser
import io
import json
import re
from contextlib import nullcontext
from dataclasses import dataclass
from types import SimpleNamespace
from unittest.mock import Mock
from urllib.parse import parse_qsl, quote_plus

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from attnviz import Head, View, export
from attnviz.alignment import Alignment
from attnviz.bertviz_views import _object
from attnviz.figures.labels import plain as plotly_plain
from attnviz.text import visible
from attnviz.ui import say
from attnviz.ui import texts as sharing
from attnviz.ui.comparison import views
from attnviz.ui.comparison.lines import difference_lines
from attnviz.ui.comparison.pair import Pair, Run
from attnviz.ui.focus import Focus
from attnviz.ui.python_lines import literal, map_lines
from attnviz.ui.selection import Selection

HOW_MANY = 10_000
WORST = [
    '</script><img src=x onerror="window.__pwned=1">',
    "<!--<script>",
    "]]><svg/onload=alert(1)>",
    "&lt;b&gt; &amp;amp; &#60;i&#62; &notanentity;",
    "'\"`\\ \\' \\\" \\\\' ''' \"\"\" \\N{BULLET} \\u0041 \\",
    "{x} %{y} %s {{z}} $HOME ${a} #{b}",
    "\u2028\u2029\x85\x0b\x0c\r\n\r\t",
    "\u202eevil\u202c \u2066\u2067\u2068\u2069 \u200e\u200f\u061c",
    "".join(map(chr, [*range(1, 32), *range(127, 160)])),
    "\ud800 \udfff\ud800 \udc00",
    "\u115f\u3164\u2800\ufe0f\U000e0041\U000e007f\ufeff\ufffe",
    "=1+1\t+1 -1 @A1 '=1",
    "![a](http://evil.example/x.png) <http://evil.example> :material/home: $x$ :red[y] www.evil.example a@b.example",
    "```\n# x\n- y\n| a | b |\n|---|---|\n---",
    "e\u0301\u0301\u0301 \u0301",
    "👩‍👩‍👧 🏳️‍🌈 你好 שלום",
    "\u3000wide\u00a0\u2003spaces ",
    "a" * 300,
    "",
]
_MARKDOWN = set("\\`*_{}[]()#+-.!|~<>$:&\"'=/^@")
_CHARACTERS = st.characters(exclude_characters="\0")
_MADE = st.tuples(
    st.text(_CHARACTERS, max_size=8), st.sampled_from([*WORST, *_MARKDOWN]), st.text(_CHARACTERS, max_size=4)
)


class Elements(html.parser.HTMLParser):
    """The elements of a page and the text in them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text: list[str] = []
        self.scripts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.scripts += [""] * (tag == "script")

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            self.scripts[-1] += data
        self.text.append(data)


@pytest.fixture(scope="module")
def texts() -> list[str]:
    made = list(WORST)

    @settings(
        max_examples=HOW_MANY,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(_MADE.map("".join))
    def collect(text: str) -> None:
        made.append(text)

    collect()
    return made


def without_surrogates(text: str) -> str:
    """What a file in UTF-8 can hold of a text."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def test_there_are_as_many_texts_as_promised_and_of_every_kind(texts: list[str]) -> None:
    assert len(texts) >= HOW_MANY
    assert len(set(texts)) > HOW_MANY / 2
    everything = "".join(texts)
    assert all(mark in everything for mark in "\ud800\u202e\u2028<&\"'\\\x1b\x7f\U000e0041")


def _turned(text: str) -> str:
    """With what reorders the words around it written out."""
    codes = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
    return text.translate({code: f"⟨U+{code:04X}⟩" for code in codes})


def test_markdown_shows_the_text(texts: list[str]) -> None:
    for text in texts:
        made = say.plain(text)
        read = re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", made)
        # A word joiner, which nobody sees, keeps an address from becoming a link.
        assert read.replace("\u2060", "") == _turned(text).replace("\n", " ").replace("\u2060", "")
        assert _MARKDOWN.isdisjoint(re.sub(r"\\[!-/:-@\[-`{-~]", "", made))
        assert re.search(r"(?i)https?:|www\.|mailto:|\w@\w", made) is None


def test_a_caption_is_one_paragraph_of_text(texts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr(say.st, "html", written.append)
    for text in texts:
        say.caption("Shown:", text)
    assert len(written) == len(texts)
    for text, page in zip(texts, written, strict=True):
        read = Elements(page)
        assert read.tags == ["p"]
        assert "".join(read.text) == _turned(" ".join(filter(None, ["Shown:", text])))


def test_plotly_reads_no_markup_in_a_label(texts: list[str]) -> None:
    for text in texts:
        made = plotly_plain(text)
        assert not set("<>$") & set(made)
        assert html.unescape(made) == text
        assert re.sub("&(amp|lt|gt|#36);", "", made).count("&") == 0
        short = html.unescape(plotly_plain(text, 16))
        assert len(short) <= 16
        assert short == text or (len(text) > 16 and short == text[:15] + "…")


def test_a_page_to_take_along_holds_the_texts_and_no_element_of_theirs(texts: list[str]) -> None:
    figure = go.Figure(go.Bar(x=texts, y=np.zeros(len(texts)), customdata=[[text] for text in texts]))
    figure.update_layout(title={"text": plotly_plain("".join(WORST))})
    data = export.html(figure, caption=" ".join(texts))
    page, bare = Elements(data.decode()), Elements(export.html(go.Figure(go.Bar(x=["a"])), caption="a").decode())
    assert page.tags == bare.tags
    assert without_surrogates(" ".join(texts)) in "".join(page.text)
    block = page.scripts[0]
    assert json.loads(block)["data"][0]["x"] == texts
    assert json.loads(block)["data"][0]["customdata"] == [[text] for text in texts]
    assert not set("<>&\u2028\u2029") & set(block)


def test_bertviz_reads_the_texts_and_nothing_ends_its_script(texts: list[str]) -> None:
    block = _object({"tokens": texts}, {"attn": "[1]"})
    assert json.loads(block) == {"tokens": texts, "attn": [1]}
    assert block.isascii()
    assert not set("<>&") & set(block)


def test_files_of_numbers_give_the_texts_back(texts: list[str]) -> None:
    frame = pd.DataFrame({"key_text": pd.Series(texts, dtype=object), "key": range(len(texts))})
    expected = [without_surrogates(text) for text in texts]
    assert [row["key_text"] for row in json.loads(export.json(frame))["rows"]] == expected
    assert pd.read_parquet(io.BytesIO(export.parquet(frame)))["key_text"].tolist() == expected
    rows = list(csv.reader(io.StringIO(export.csv(frame).decode(), newline="")))[1:]
    assert [int(number) for _, number in rows] == list(range(len(texts)))
    assert not [cell for cell, _ in rows if re.match(r"\s*[=+\-@＝＋－＠]|[\t\r\n]", cell)]
    assert [cell[1:] if re.match(r"'[\s']*[=+\-@＝＋－＠\t\r\n]", cell) else cell for cell, _ in rows] == expected


def test_the_run_in_a_file_may_have_any_name(texts: list[str]) -> None:
    frame, facts = pd.DataFrame({"key": [0]}), {str(i): text for i, text in enumerate(texts)}
    expected = {name: without_surrogates(text) for name, text in facts.items()}
    assert json.loads(export.json(frame, facts))["about"] == expected
    assert pd.read_parquet(io.BytesIO(export.parquet(frame, facts))).attrs == expected


def test_python_reads_the_text_and_people_see_all_of_it(texts: list[str]) -> None:
    for text in texts:
        made = literal(text)
        assert ast.literal_eval(made) == text
        assert all(len(line) <= 100 for line in made.split("\n"))
        shown = set(made) - {"\n", " "}
        assert all(c.isprintable() and (c.isascii() or c in visible(c)) for c in shown)


@dataclass(frozen=True)
class Labels:
    """Units that are only their labels."""

    labels: list[str]

    def __len__(self) -> int:
        return len(self.labels)


def test_aligned_texts_are_shown_unit_by_unit(texts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr(views.st, "html", written.append)
    n, other = len(texts), texts[::-1]
    both = tuple((i, i) for i in range(n))
    apart = Alignment((), frozenset(), deleted=tuple(range(n)), inserted=tuple(range(n)))
    together = Alignment(both, frozenset(both[::2]), deleted=(), inserted=())
    for alignment in (apart, together):
        views._aligned(alignment, Labels(texts), Labels(other), {"query": 1, "key": 0}, "name")  # type: ignore[arg-type]
    pages = [Elements(page) for page in written]
    mixed = [text for i in range(n) for text in ([texts[i]] if i % 2 else [texts[i], other[i]])]
    for page, shown in zip(pages, ([*texts, *other], mixed), strict=True):
        assert page.text == [text for text in shown if text]
        assert set(page.tags) <= {"div", "span", "bdi", "del", "ins"}
        assert page.tags.count("bdi") == len(shown)


def test_a_link_that_holds_the_text_gives_it_back(texts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    codes: list[str] = []
    page = SimpleNamespace(
        context=SimpleNamespace(url="https://here.example/compare?x=1"),
        popover=lambda *_, **__: nullcontext(),
        caption=lambda words: None,
        info=lambda words: None,
        toggle=lambda *_, **__: True,
        code=lambda code, **_: codes.append(code),
    )
    monkeypatch.setattr(sharing, "st", page)
    monkeypatch.setattr(sharing, "selection", lambda: Selection(model="m", text="k" * 22, query=3))
    for text in filter(None, map(without_surrogates, texts)):  # others are refused before they are kept
        codes.clear()
        monkeypatch.setattr(sharing, "text_of", lambda key, text=text: text)
        sharing.share()
        address, _, query = codes[-1].partition("?")
        assert address == "https://here.example/compare"
        assert re.fullmatch(r"[A-Za-z0-9_.~%&=+-]+", query)
        if len(codes) == 2:
            assert dict(parse_qsl(query, strict_parsing=True)) == {"model": "m", "query": "3", "with_text": text}
        else:
            assert len(quote_plus(text)) > 1_900


def test_lines_that_compare_hold_the_texts_and_no_other_code(texts: list[str]) -> None:
    head, nothing, trace = Head(0, 0, "cross"), Alignment((), frozenset(), (), ()), Mock()

    def parsed(first: str, second: str) -> ast.Module:
        run = Run(f"{first}m", first, second, False, trace)
        other = Run(f"{second}n", second, first, True, trace)
        pair = Pair((run, other), head, head, View(), nothing, nothing, alike=True)
        return ast.parse(difference_lines(pair, Selection()))

    def shape(tree: ast.Module) -> list[type]:
        """Kinds of statements; a text that is long has a name and a line of its own."""
        return [type(node) for node in tree.body if not isinstance(getattr(node, "value", None), ast.Constant)]

    expected = shape(parsed("a", "b"))
    for text in filter(None, texts):
        tree = parsed(text, "b")
        assert shape(tree) == expected
        constants = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
        assert (constants.count(text), constants.count(f"{text}m")) == (2, 1)


def test_lines_to_copy_hold_the_text_and_no_other_code(texts: list[str]) -> None:
    head = Head(0, 0, "cross")
    focus = Focus(head, 0, 0, (0,), (0,), (head,), View())
    shape = [type(node) for node in ast.parse(map_lines(Selection(model="m"), focus, "a", "b")).body]
    for text in texts:
        tree = ast.parse(map_lines(Selection(model=text or "m"), focus, text, text or "b"))
        constants = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
        assert constants.count(text) >= (3 if text else 1)
        plain_statements = [node for node in tree.body if not isinstance(getattr(node, "value", None), ast.Constant)]
        assert [type(node) for node in plain_statements] == shape
