"""Texts on the Explore page in a real Chromium: examples, hostile ones, too long ones, and a chat's template."""

import re

import pytest
from conftest import NewExplore
from playwright.sync_api import expect
from seen import CATS, EXAMPLES, FIRST, HOSTILE, assert_no_script_ran, assert_picture, assert_plain, message

import attnviz

BROWSER_LINE = re.compile(r"[\u2028\u2029]")


def test_every_example_gives_its_picture_and_leaves_no_model_to_the_next(
    visit: NewExplore, smollm2: attnviz.Model
) -> None:
    explore = visit()
    tokens: dict[str, list[str]] = {}
    special = next(example for example in EXAMPLES if "model" in example)
    for example in [*(example for example in EXAMPLES if "model" not in example), special, EXAMPLES[0]]:
        explore.choose_example(example)
        expect(explore.text).to_have_value(example["text"])
        if "model" in example:
            expect(explore.caption).to_contain_text(f"of {example['model']}")
        else:
            expect(explore.chips).to_have_text([token.text for token in smollm2.encode(example["text"]).tokens])
            expect(explore.strip.locator(".chip.query")).to_have_count(1)
            expect(explore.caption).to_contain_text("SmolLM2-135M-Instruct")
        assert_picture(explore, example["text"])
        expect(explore.caption).not_to_contain_text("\ufffd")
        tokens[example["id"]] = explore.tokens()
    # Characters of many tokens stay readable.
    assert any("东" in text for text in tokens["chinese"])
    assert any(re.search(r"\b1/[23]\b", text) for text in tokens["chinese"])
    assert any("🎂" in text for text in tokens["emoji"])
    assert sum("👨‍👩‍👧" in text for text in tokens["emoji"]) > 3
    assert any(re.search(r"\b2/\d+\b", text) for text in tokens["emoji"])


def test_an_encoder_decoder_shows_each_of_its_attentions(visit: NewExplore) -> None:
    example = next(example for example in EXAMPLES if example.get("model") == "dates")
    trace = attnviz.load_model("dates").trace(example["text"])
    explore = visit("?model=minilm")
    explore.choose_example(example)
    explore.wait_for_params(model="dates")
    for site, title in (("cross", "Cross"), ("decoder", "Decoder"), ("encoder", "Encoder")):
        explore.keyed("site").get_by_role("radio", name=title).click()
        explore.wait_for_params(site=site)
        _, keys = trace.axes(site)
        expect(explore.chips).to_have_text([token.text for token in keys])
        expect(explore.query_strip).to_have_count(1 if site == "cross" else 0)
        explore.pick(explore.grid, 1, 0)
        explore.wait_for_params(site=site, layer=1, head=0)
        expect(explore.caption).to_contain_text("L1H0")
        explore.wait_for_values(explore.map, trace.pattern(1, 0, site).numpy())
    explore.keyed("site").get_by_role("radio", name="Cross").click()
    explore.wait_for_params(site="cross")
    explore.query_strip.locator('.chip[data-index="3"]').click()
    explore.wait_for_params(query=3)
    explore.chip(5).click()
    explore.wait_for_params(query=3, key=5)
    caption = explore.caption.inner_text()
    explore.reload()
    expect(explore.caption).to_have_text(caption)


# The kinds that say the same do not follow each other.
REFUSED = {
    "empty": ("", "Write at least one word"),
    "100,000 characters": ("a b " * 25_000, re.compile("at most 50,?000 characters, got 100,?000")),
    "blank": (" \n ", "Write at least one word"),
    "too many tokens": ("one two " * 1_500, re.compile(r"has [\d,]+ tokens; this app shows at most 2,048")),
    "control character": ("a bell\x07 rings", "U+0007 at character 7"),
}


def test_a_text_over_a_limit_is_refused_and_stays_in_the_field(visit: NewExplore, subtests: pytest.Subtests) -> None:
    explore = visit()
    for name, (text, words) in REFUSED.items():
        with subtests.test(name):
            explore.submit(text)
            assert_plain(explore, message(explore, words))
            expect(explore.alerts).to_have_count(1)
            assert explore.text.input_value() == text
    explore.run(CATS)
    assert_picture(explore, CATS)
    expect(explore.alerts).to_have_count(0)


def test_a_hostile_text_is_shown_as_text(visit: NewExplore, smollm2: attnviz.Model) -> None:
    explore = visit()
    explore.run(HOSTILE)
    tokens = [token.text for token in smollm2.encode(HOSTILE).tokens]
    expect(explore.chips).to_have_text(tokens)
    assert explore.tokens() == tokens
    assert "".join(tokens[:4]) == "</script><img"
    assert "\u202e" not in "".join(tokens)
    for index in (1, 3, 7):
        explore.chip(index).click()
        explore.wait_for_params(query=index)
        expect(explore.caption).to_contain_text(f"query {index} “{tokens[index]}”")
    explore.map.get_by_text("Show as a table").click()
    expect(explore.map.get_by_role("table")).to_be_visible()
    assert_no_script_ran(explore)
    assert explore.page.get_by_text("home", exact=True).and_(explore.page.get_by_test_id("stIconMaterial")).count() == 0


def test_a_hostile_second_text_is_shown_as_text(visit: NewExplore) -> None:
    explore = visit("?model=minilm")
    field = explore.page.get_by_role("textbox", name="Second text")
    field.fill(BROWSER_LINE.sub("", HOSTILE))
    field.press("Enter")
    expect(explore.fresh.get_by_test_id("stMetricValue")).to_be_visible()
    explore.run(HOSTILE)
    assert_no_script_ran(explore)
    expect(field).to_have_value(BROWSER_LINE.sub("", HOSTILE))


def test_the_chat_template_marks_its_tokens_and_stays_over_a_reload(visit: NewExplore, smollm2: attnviz.Model) -> None:
    explore = visit()
    expect(explore.strip.locator(".chip.template")).to_have_count(0)
    explore.keyed("chat-switch").get_by_text("Chat template").click()
    explore.wait_for_params(chat=1)
    wanted = smollm2.encode(FIRST, chat_template=True).tokens
    for _ in ("as switched", "as reloaded"):
        expect(explore.chips).to_have_text([token.text for token in wanted])
        marked = explore.strip.locator(".chip.template").evaluate_all("all => all.map(one => +one.dataset.index)")
        assert marked == [i for i, token in enumerate(wanted) if token.template and not token.special]
        assert marked
        expect(explore.keyed("chat-switch").locator("input")).to_be_checked()
        assert explore.params()["chat"] == "1"
        assert_picture(explore, FIRST)
        explore.reload()
    explore.keyed("chat-switch").get_by_text("Chat template").click()
    expect(explore.chips).to_have_count(14)
    explore.wait_for_params(chat=None)


def long_text(model: attnviz.Model, tokens: int) -> str:
    sentence = "The keys that the old janitor left beside the open doors of the school were never found again. "
    return (sentence * -(-tokens // len(model.encode(sentence).ids))).strip()


def test_a_long_text_is_drawn_whole(visit: NewExplore, smollm2: attnviz.Model) -> None:
    text = long_text(smollm2, 560)
    count = len(smollm2.encode(text).ids)
    assert count > 520  # one more than a map draws without blocks is enough
    explore = visit()
    explore.run(text)
    assert_picture(explore, text)
    expect(explore.chips).to_have_count(count)
    expect(explore.bar).to_have_count(0)
    pattern = smollm2.trace(text).pattern(23, 3)
    block = float(pattern[500:502, 450:452].max())  # the overview shows the largest of two by two
    explore.until(lambda: abs(explore.map.evaluate("root => root.valueAt(500, 450)") - block) < 1e-5)
    expect(explore.map.locator(".note")).to_be_visible()
    explore.open_link(f"{explore.page.url}&window=490-520-440-470")
    explore.pick(explore.map, 500, 450)
    explore.wait_for_params(query=500, key=450)
    value = float(pattern[500, 450])
    explore.until(lambda: abs(explore.map.evaluate("root => root.valueAt(500, 450)") - value) < 1e-5)


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
    explore.button("Try again").click()
    expect(explore.bar).to_be_visible()
    explore.submit(CATS)
    expect(explore.strip.locator(".chip.query")).to_have_text("␣cat")
    assert_picture(explore, CATS)
    expect(explore.alerts).to_have_count(0)
