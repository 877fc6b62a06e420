"""The Explore page's address in a real Chromium: it restores a picture, and says what it cannot take."""

from urllib.parse import parse_qsl, quote, urlsplit

import pytest
from conftest import NewExplore
from playwright.sync_api import expect
from seen import CATS, FIRST, HOSTILE, assert_no_script_ran, assert_picture, message

STALE = "A" * 22


def test_reload_another_tab_and_a_colleague_restore_the_same_picture(visit: NewExplore) -> None:
    explore = visit()
    explore.run(CATS)
    explore.pick(explore.grid, 5, 1)
    explore.wait_for_params(layer=5, head=1)
    explore.pick(explore.map, 9, 4)
    explore.wait_for_params(query=9, key=4)
    expect(explore.caption).to_contain_text("query 9")
    caption, address = explore.caption.inner_text(), explore.page.url
    explore.page.get_by_role("button", name="Share").click()
    link = explore.page.get_by_test_id("stCode").inner_text().strip()
    assert link.startswith(explore.url)
    assert "cat" not in link

    colleague = visit(f"?{urlsplit(link).query}")
    for place in (explore.reload(), explore.beside(), colleague):
        assert_picture(place, CATS)
        expect(place.caption).to_have_text(caption)
        assert place.page.url == address


def test_a_link_with_the_text_brings_it_and_then_lets_go_of_it(visit: NewExplore) -> None:
    explore = visit()
    text = "5 > 4 & 100% “sûr” +1 # 北京"
    explore.run(text)
    explore.page.get_by_role("button", name="Share").click()
    explore.keyed("share-text").get_by_text("Put the text into the link").click()
    link = explore.page.get_by_test_id("stCode").filter(has_text="with_text=").inner_text().strip()
    assert dict(parse_qsl(urlsplit(link).query))["with_text"] == text
    expect(explore.page.get_by_text("Whoever has this link has the text")).to_be_visible()
    other = visit(f"?{urlsplit(link).query}")
    assert_picture(other, text)
    expect(other.caption).to_have_text(explore.caption.inner_text())
    other.wait_for_params(with_text=None)
    assert "100" not in other.page.url


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


def test_a_hostile_address_gives_a_message_and_a_default(visit: NewExplore) -> None:
    hostile = quote(HOSTILE)
    explore = visit(f"?with_text={hostile}")
    assert_no_script_ran(explore)
    expect(explore.chip(1)).to_have_text("script")
    explore.wait_for_params(with_text=None)

    explore.open(f"?model={hostile}")
    said = message(explore, "There is no model")
    assert "<img src=x onerror=" in said
    assert "![i](http://evil.example/x.png) $x$ :material/home:" in said
    assert_no_script_ran(explore)
    explore.choose_model("SmolLM2-135M-Instruct")
    expect(explore.caption).to_be_visible()
    assert_no_script_ran(explore)


BAD_ADDRESSES = {
    f"layer=abc&text=zzz&score=%3Cimg+src%3Dx%3E&other={STALE}": (
        "Layer in the address is not a whole number",
        "Text in the address is not a key of this app",
        "Score in the address is not one of between, sink",
        "other behind this link is no longer kept here",
    ),
    "layer=-1&text=..%2F..%2Fetc%2Fpasswd&site=%3Cimg+src%3Dx%3E": (
        "Layer in the address is not a whole number",
        "Text in the address is not a key of this app",
        "Site in the address is not a site of attention",
    ),
    f"text={STALE}&layer=1&head=1&query=5": ("text behind this link is no longer kept here",),
    "layer=99999&head=99999": ("SmolLM2-135M-Instruct has no head L99999H99999",),
    "layer=%F0%9F%8E%82&head=1e9&site=nowhere": (
        "Layer in the address is not a whole number",
        "Head in the address is not a whole number",
        "SmolLM2-135M-Instruct has no attention at 'nowhere'",
    ),
}


def test_a_bad_or_stale_address_gives_a_message_and_a_default(visit: NewExplore, subtests: pytest.Subtests) -> None:
    explore = visit()
    for query, sentences in BAD_ADDRESSES.items():
        with subtests.test(query):
            explore.open(f"?{query}")
            said = message(explore, "in" if len(sentences) > 1 else sentences[0])
            for words in sentences:
                assert words.lower() in said.lower()  # of several, the first begins the sentence
            assert said.endswith("A default is shown instead.")
            assert_picture(explore, FIRST)
            expect(explore.caption).to_contain_text("L23H3")
            assert_no_script_ran(explore)
    explore.reload()
    expect(explore.alerts).to_have_count(0)


def test_half_an_address_is_used_or_a_message_says_that_it_is_not(visit: NewExplore, subtests: pytest.Subtests) -> None:
    explore = visit()
    for query in ("head=99999", "layer=5&key=999", "query=5", "query=999"):
        with subtests.test(query):
            explore.open(f"?{query}")
            assert_picture(explore, FIRST)
            taken = dict(parse_qsl(query)).items() <= explore.params().items()
            told = explore.alerts.filter(has_text="A default is shown instead.").count() == 1
            assert taken != told
