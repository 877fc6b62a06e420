"""Two hundred hostile tokens through every view in a real Chromium: each of them is shown, and none is more than text.

They come in a saved trace, the one thing that can bring tokens which no tokenizer of ours has made; and for the pages
that run a model, in the texts and the vocabulary of one whose tokens are these.
"""

import random
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlencode

import pytest
import torch
import transformers
from driving import Explore
from playwright.sync_api import Frame, Locator, expect
from tokenizers import Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split

import attnviz
from attnviz.text import visible

NewExplore = Callable[..., Explore]

N_TOKENS = 200
SECONDS = 30
PNG_START = b"\x89PNG\r\n\x1a\n"
SVG = "{http://www.w3.org/2000/svg}"
FRAGMENTS = (
    '</script><img src=x onerror="window.__pwned=1">',
    "</script><script>window.__pwned=1;alert(1)</script>",
    "<svg onload=window.__pwned=1>",
    "<svg/onload='parent.__pwned=1'>",
    "</style></textarea></title><iframe srcdoc='<script>parent.parent.__pwned=1</script>'></iframe>",
    "<!--",
    "<!--<script>",
    "-->",
    "]]>",
    "<![CDATA[",
    "&lt;img src=x&gt;",
    "&#60;b&#62;",
    "'",
    '"',
    "\"'><b class=pwned>",
    "');window.__pwned=1;//",
    "\\",
    "\\u003cimg src=x\\u003e",
    "`",
    "```",
    "${window.__pwned=1}",
    "{{constructor.constructor('window.__pwned=1')()}}",
    "{{}}",
    "{0}",
    "%s",
    "PYTHON_PARAMS",
    "__proto__",
    "\u2028",
    "\u2029",
    "\u202e",
    "\u2066\u2067",
    "\u200f",
    "\ufffe",
    "\x07",
    "**bold**",
    "# heading",
    "| a | b |",
    "![i](http://evil.example/x.png)",
    "[l](javascript:window.__pwned=1)",
    "http://evil.example",
    "$x$",
    "$$\\href{javascript:window.__pwned=1}{x}$$",
    ":material/home:",
    ":red[x]",
    "\U0001f469\u200d\U0001f680",
)
PARSED = 'img[src="x"], img[src*="evil"], a[href*="evil"], a[href^="javascript"], svg[onload], b.pwned, .katex'


def hostile_texts(without: str = "") -> list[str]:
    """Every fragment alone, then seeded mixtures of them; no two the same, and none `without` that."""
    draw = random.Random(200)
    fragments = [fragment for fragment in FRAGMENTS if fragment != without]
    texts = dict.fromkeys(fragments)
    while len(texts) < N_TOKENS:
        texts["".join(draw.choices(fragments, k=draw.randint(2, 4)))] = None
    return list(texts)


def tiny_llama() -> transformers.LlamaForCausalLM:
    """A model of one head and so many tokens, with random weights."""
    config = transformers.LlamaConfig(
        vocab_size=N_TOKENS,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,  # one head in all: BertViz draws a line a pair of tokens in each
        num_attention_heads=1,
        num_key_value_heads=1,
        max_position_embeddings=256,
        bos_token_id=None,
        eos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(200)
        return transformers.LlamaForCausalLM(config)


@pytest.fixture(scope="module")
def trace() -> attnviz.Trace:
    """A tiny Llama's trace; its tokens, text, model's name and predictions say hostile things."""
    plain = attnviz.wrap_model(tiny_llama()).trace(input_ids=list(range(N_TOKENS)))
    texts = hostile_texts()
    return replace(
        plain,
        text=" ".join(texts),
        tokens=tuple(replace(token, text=text) for token, text in zip(plain.tokens, texts, strict=True)),
        info=replace(plain.info, name="".join(FRAGMENTS[:3]), note=FRAGMENTS[4]),
        decode=texts.__getitem__,
    )


class Hostile:
    """One browser tab that shows these tokens, and what must hold on each of its pages."""

    def __init__(self, explore: Explore, texts: list[str]) -> None:
        self.explore, self.page, self.texts = explore, explore.page, texts
        self.dialogs: list[str] = []
        self.page.on("dialog", lambda dialog: (self.dialogs.append(dialog.message), dialog.dismiss()))

    def opened(self, file: Path) -> "Hostile":
        """With this saved trace."""
        self.explore.open_saved(file)
        expect(self.explore.chips).to_have_count(N_TOKENS)
        self.explore.settled()
        return self

    def go(self, name: str) -> None:
        # By the menu: an address below the first page makes the browser ask for files that are not there.
        self.page.get_by_role("link", name=name, exact=True).click()

    def done(self) -> None:
        self.page.wait_for_function("() => document.querySelector('.stApp').dataset.testScriptState === 'notRunning'")

    def assert_harmless(self) -> None:
        assert self.dialogs == []
        for frame in self.page.frames:
            assert frame.evaluate("window.__pwned") is None
            assert frame.locator(PARSED).count() == 0
        icons = self.page.get_by_test_id("stMain").get_by_test_id("stIconMaterial")
        assert icons.and_(self.page.get_by_text("home", exact=True)).count() == 0
        expect(self.page.get_by_test_id("stException")).to_have_count(0)
        expect(self.explore.alerts).to_have_count(0)

    def assert_all(self, tokens: Locator) -> None:
        """These elements hold the tokens' texts, each as text and nothing else."""
        assert tokens.all_text_contents() == self.texts
        assert tokens.evaluate_all("all => all.every(one => !one.querySelector('*:not(bdi)'))")

    def bertviz(self, view: str) -> Frame:
        """Have a view of the selected layer alone made, and wait for its drawing."""
        self.explore.keyed("bertviz-kind").get_by_role("radio", name=view).click()
        make = self.page.get_by_role("button", name="Make it")
        expect(make).to_be_visible()
        self.done()
        make.click()
        element = self.page.locator(f'[data-testid="framed"] iframe[title="BertViz: {view}"]')
        expect(element).to_be_visible()
        frame = element.element_handle().content_frame()
        assert frame is not None
        frame.wait_for_selector("svg line", state="attached")
        self.done()
        return frame


@pytest.fixture
def hostile(visit: NewExplore, trace: attnviz.Trace, tmp_path: Path) -> Hostile:
    # The smallest model stands there before the file is opened.
    explore = visit("?model=dates")
    return Hostile(explore, hostile_texts()).opened(trace.save(tmp_path / "hostile.safetensors"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in a folder of a hostile name; each line of what it reads or writes is one hostile token."""
    folder = tmp_path_factory.mktemp("models") / '<img src=x onerror="window.__pwned=1">'
    texts = hostile_texts(without="\x07")  # which no text that is typed may have
    words = Tokenizer(WordLevel({text: i for i, text in enumerate(texts)}, unk_token=texts[0]))
    words.pre_tokenizer, words.decoder = Split("\n", "removed"), Fuse()
    transformers.PreTrainedTokenizerFast(tokenizer_object=words).save_pretrained(folder)
    tiny_llama().save_pretrained(folder)
    return folder


def saved(hostile: Hostile, root: Locator, kind: str, path: Path) -> Path:
    with hostile.page.expect_download() as download:
        root.get_by_role("button", name=f"Save this picture as {kind}").click()
    download.value.save_as(path)
    return path


def test_explore_all_heads_and_lines_show_hostile_tokens_as_text(hostile: Hostile, tmp_path: Path) -> None:
    explore = hostile.explore
    hostile.assert_all(explore.chips)
    hostile.assert_harmless()
    for index in (0, 4, 40, N_TOKENS - 1):
        explore.chip(index).click()
        explore.wait_for_params(query=index)
        expect(explore.strip.locator(".readout bdi.token")).to_have_count(1)
        until(hostile, lambda i=index: f"query {i} “{hostile.texts[i]}”" in (explore.caption.text_content() or ""))
        hostile.assert_harmless()
    explore.strip.get_by_text("Show as a table").click()
    rows = explore.strip.locator("tbody tr")
    expect(rows).to_have_count(N_TOKENS)
    assert rows.evaluate_all("all => all.map(one => one.children[1].textContent)") == hostile.texts
    assert saved(hostile, explore.map, "PNG", tmp_path / "png").read_bytes().startswith(PNG_START)
    svg = ET.fromstring(saved(hostile, explore.map, "SVG", tmp_path / "svg").read_text("utf-8"))
    assert {node.tag.removeprefix(SVG) for node in svg.iter()} <= {
        "svg", "g", "text", "rect", "path", "image", "defs", "clipPath",
    }  # fmt: skip
    assert not [name for node in svg.iter() for name in node.attrib if name.lower().startswith("on")]
    labels = "\n".join(node.text or "" for node in svg.iter(f"{SVG}text"))
    assert "</script>" in labels
    hostile.assert_harmless()

    hostile.go("All heads")
    expect(hostile.page.locator(".attnviz-caption", has_text="Each thumbnail")).to_be_visible()
    hostile.page.locator('[data-testid="gallery"] canvas').wait_for()
    hostile.done()
    hostile.assert_harmless()

    hostile.go("Lines")
    root = hostile.page.locator('[data-testid="lines"]')
    expect(hostile.page.locator(".attnviz-caption", has_text="Queries are on the left")).to_be_visible()
    hostile.done()
    until(hostile, lambda: root.evaluate("root => !!root.tokenCenter && root.querySelector('canvas').width > 300"))
    stage = root.get_by_role("application")
    for key, side in (("ArrowLeft", "query"), ("ArrowRight", "key")):
        spoken = stage.evaluate(
            """(stage, across) => {
              const live = stage.getRootNode().querySelector('[aria-live]');
              const press = key => stage.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
              const said = [];
              press(across);
              press('Home');
              for (let i = 0; i < 200; i++) {
                said.push([live.textContent, live.childElementCount]);
                press('ArrowDown');
              }
              return said;
            }""",
            key,
        )
        for index, (words, elements) in enumerate(spoken):
            assert words.startswith(f'{side} {index} "{hostile.texts[index]}"')
            assert elements == 0
    root.get_by_text("Show as a table").click()
    expect(root.locator("tbody tr").first).to_be_visible()
    lines = ET.fromstring(saved(hostile, root, "SVG", tmp_path / "lines").read_text("utf-8"))
    assert "img" not in {node.tag.removeprefix(SVG) for node in lines.iter()}
    hostile.assert_harmless()


def test_bertviz_and_the_products_show_hostile_tokens_as_text(hostile: Hostile) -> None:
    hostile.go("BertViz")
    head = hostile.bertviz("Head view")
    hostile.assert_all(head.locator("#left text"))
    hostile.assert_all(head.locator("#right text"))
    hostile.assert_harmless()

    model = hostile.bertviz("Model view")
    model.locator(".attn_background + * ~ rect").first.dispatch_event("click")
    enlarged = model.locator("text.token")
    expect(enlarged).to_have_count(2 * N_TOKENS)
    assert enlarged.all_text_contents() == hostile.texts * 2
    hostile.assert_harmless()

    neuron = hostile.bertviz("Neuron view")
    hostile.assert_all(neuron.locator("#collapsed #leftText text"))
    hostile.assert_harmless()

    hostile.explore.keyed("bertviz-kind").get_by_role("radio", name="Query-key products").click()
    products = hostile.explore.matrix("products")
    expect(products).to_be_visible()
    hostile.done()
    hostile.assert_all(hostile.explore.chips)
    products.get_by_text("Show as a table").click()
    expect(products.locator("tbody tr").first).to_be_visible()
    hostile.assert_harmless()


def test_compare_and_generation_show_hostile_tokens_as_text(visit: NewExplore, folder: Path) -> None:
    texts = hostile_texts(without="\x07")
    labels = [visible(text) for text in texts]
    hostile = Hostile(visit("?" + urlencode({"model": str(folder), "with_text": texts[1], "length": 4})), labels)
    page = hostile.page
    hostile.go("Compare")
    page.get_by_role("textbox", name="First").fill("\n".join(texts))
    page.get_by_role("textbox", name="Second").fill("\n".join(texts[N_TOKENS // 2 :] + texts[: N_TOKENS // 2]))
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(hostile.explore.matrix("map-second")).to_be_visible()
    hostile.done()
    aligned = page.locator(".attnviz-aligned")
    hostile.assert_all(aligned.locator("del, span.both"))
    assert sorted(aligned.locator("ins, span.both").all_text_contents()) == sorted(labels)
    assert aligned.locator("ins").count() > 0
    difference = hostile.explore.matrix("map-difference")
    difference.get_by_text("Show as a table").click()
    expect(difference.locator("tbody tr").first).to_be_visible()
    hostile.assert_harmless()

    hostile.go("Generation")
    expect(hostile.explore.matrix("movement")).to_be_visible()
    hostile.done()
    chips = hostile.explore.chips.all_text_contents()
    assert (chips[:N_TOKENS], len(chips)) == (labels, N_TOKENS + 4)
    assert set(chips[N_TOKENS:]) <= set(labels)
    scrubber = page.get_by_test_id("scrubber")
    for written in chips[N_TOKENS:]:
        expect(scrubber.locator("bdi.token")).to_have_text(written)
        scrubber.get_by_role("slider").press("ArrowRight")
    hostile.assert_harmless()


def until(hostile: Hostile, holds: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < end
        hostile.page.wait_for_timeout(100)  # not time.sleep, in which Playwright hears nothing of the page
