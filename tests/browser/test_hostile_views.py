"""Two hundred hostile tokens through every view in a real Chromium: each of them is shown, and none is more than text.

They come in a saved trace, the one thing that can bring tokens which no tokenizer of ours has made; and for the pages
that run a model, in the texts and the vocabulary of one whose tokens are these.
"""

import random
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from conftest import NewExplore, NewTab
from driving import Explore, Tab
from playwright.sync_api import Locator, expect
from tabs import AllHeads, Bertviz, Compare, Generation, Lines
from tokenizers import Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split

import attnviz
from attnviz.text import visible

N_TOKENS = 200
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

    def __init__(self, tab: Tab, texts: list[str]) -> None:
        self.page, self.texts = tab.page, texts
        self.alerts = tab.alerts

    def assert_harmless(self) -> None:
        for frame in self.page.frames:
            assert frame.evaluate("window.__pwned") is None
            assert frame.locator(PARSED).count() == 0
        icons = self.page.get_by_test_id("stMain").get_by_test_id("stIconMaterial")
        assert icons.and_(self.page.get_by_text("home", exact=True)).count() == 0
        expect(self.page.get_by_test_id("stException")).to_have_count(0)
        expect(self.alerts).to_have_count(0)

    def assert_all(self, tokens: Locator) -> None:
        """These elements hold the tokens' texts, each as text and nothing else."""
        assert tokens.all_text_contents() == self.texts
        assert tokens.evaluate_all("all => all.every(one => !one.querySelector('*:not(bdi)'))")


@pytest.fixture
def opened(visit: NewExplore, trace: attnviz.Trace, tmp_path: Path) -> Explore:
    """The Explore page with the saved trace."""
    explore = visit("?model=dates")  # the smallest model stands there before the file is opened
    explore.open_saved(trace.save(tmp_path / "hostile.safetensors"))
    expect(explore.chips).to_have_count(N_TOKENS)
    return explore.settled()


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


def picture(root: Locator, kind: str) -> Locator:
    return root.get_by_role("button", name=f"Save this picture as {kind}")


def test_explore_all_heads_and_lines_show_hostile_tokens_as_text(opened: Explore, tmp_path: Path) -> None:
    explore, hostile = opened, Hostile(opened, hostile_texts())
    hostile.assert_all(explore.chips)
    hostile.assert_harmless()
    for index in (0, 4, 40, N_TOKENS - 1):
        explore.chip(index).click()
        explore.wait_for_params(query=index)
        expect(explore.strip.locator(".readout bdi.token")).to_have_count(1)
        words = f"query {index} “{hostile.texts[index]}”"
        explore.until(lambda words=words: words in (explore.caption.text_content() or ""))  # type: ignore[misc]
        hostile.assert_harmless()
    explore.strip.get_by_text("Show as a table").click()
    rows = explore.strip.locator("tbody tr")
    expect(rows).to_have_count(N_TOKENS)
    assert rows.evaluate_all("all => all.map(one => one.children[1].textContent)") == hostile.texts
    assert explore.saved(picture(explore.map, "PNG"), tmp_path / "png").read_bytes().startswith(PNG_START)
    svg = ET.fromstring(explore.saved(picture(explore.map, "SVG"), tmp_path / "svg").read_text("utf-8"))
    assert {node.tag.removeprefix(SVG) for node in svg.iter()} <= {
        "svg", "g", "text", "rect", "path", "image", "defs", "clipPath",
    }  # fmt: skip
    assert not [name for node in svg.iter() for name in node.attrib if name.lower().startswith("on")]
    labels = "\n".join(node.text or "" for node in svg.iter(f"{SVG}text"))
    assert "</script>" in labels
    hostile.assert_harmless()

    all_heads = explore.go(AllHeads)
    expect(all_heads.caption).to_be_visible()
    hostile.assert_harmless()

    lines = all_heads.go(Lines)
    for key, side in (("ArrowLeft", "query"), ("ArrowRight", "key")):
        spoken = lines.stage.evaluate(
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
    lines.root.get_by_text("Show as a table").click()
    expect(lines.root.locator("tbody tr").first).to_be_visible()
    file = lines.saved(picture(lines.root, "SVG"), tmp_path / "lines")
    assert "img" not in {node.tag.removeprefix(SVG) for node in ET.fromstring(file.read_text("utf-8")).iter()}
    hostile.assert_harmless()


def test_bertviz_and_the_products_show_hostile_tokens_as_text(opened: Explore) -> None:
    bertviz, hostile = opened.go(Bertviz), Hostile(opened, hostile_texts())
    head = bertviz.frame("Head view")
    hostile.assert_all(head.locator("#left text"))
    hostile.assert_all(head.locator("#right text"))
    hostile.assert_harmless()

    model = bertviz.frame("Model view")
    model.locator(".attn_background + * ~ rect").first.dispatch_event("click")
    enlarged = model.locator("text.token")
    expect(enlarged).to_have_count(2 * N_TOKENS)
    assert enlarged.all_text_contents() == hostile.texts * 2
    hostile.assert_harmless()

    neuron = bertviz.frame("Neuron view")
    hostile.assert_all(neuron.locator("#collapsed #leftText text"))
    hostile.assert_harmless()

    bertviz.choose("Query-key products")
    products = bertviz.matrix("products")
    expect(products).to_be_visible()
    bertviz.settled()
    hostile.assert_all(bertviz.part("token-strip", "strip").locator(".chip"))
    products.get_by_text("Show as a table").click()
    expect(products.locator("tbody tr").first).to_be_visible()
    hostile.assert_harmless()


def test_compare_and_generation_show_hostile_tokens_as_text(tab: NewTab, app_url: str, folder: Path) -> None:
    texts = hostile_texts(without="\x07")
    labels = [visible(text) for text in texts]
    compare = Compare(tab(app_url), app_url).open(model=folder, with_text=texts[1], length=4)
    hostile = Hostile(compare, labels)
    compare.page.get_by_role("textbox", name="First").fill("\n".join(texts))
    compare.page.get_by_role("textbox", name="Second").fill("\n".join(texts[N_TOKENS // 2 :] + texts[: N_TOKENS // 2]))
    compare.button("Compare").click()
    expect(compare.matrix("map-second")).to_be_visible()
    compare.settled()
    aligned = compare.fresh.locator(".attnviz-aligned")
    hostile.assert_all(aligned.locator("del, span.both"))
    assert sorted(aligned.locator("ins, span.both").all_text_contents()) == sorted(labels)
    assert aligned.locator("ins").count() > 0
    difference = compare.matrix("map-difference")
    difference.get_by_text("Show as a table").click()
    expect(difference.locator("tbody tr").first).to_be_visible()
    hostile.assert_harmless()

    generation = compare.go(Generation)
    chips = generation.strip.locator(".chip").all_text_contents()
    assert (chips[:N_TOKENS], len(chips)) == (labels, N_TOKENS + 4)
    assert set(chips[N_TOKENS:]) <= set(labels)
    for written in chips[N_TOKENS:]:
        expect(generation.scrubber.locator("bdi.token")).to_have_text(written)
        generation.slider.press("ArrowRight")
    hostile.assert_harmless()
