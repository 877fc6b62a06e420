"""The Generation page as a person meets it: stepping, playing, picking, waiting and stopping, in a real Chromium."""

import re
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from conftest import NewTab
from driving import Explore
from playwright.sync_api import expect
from tabs import START, Generation

from attnviz import Head, Model
from attnviz.generated import movement, shift, steps

PROMPT = "The capital of France is"
LENGTH = 8
HOSTILE = '</script><img src=x onerror="window.__pwned=1"> <b>x</b> \u202e \u2028 &amp; is'
# Watches the slider's step and the address, which the script sets: the one may be a step ahead, and no more.
_AHEAD = """(root, start) => new Promise((done) => {
  const seen = new Set();
  let most = 0;
  const look = () => {
    const step = Number(root.dataset.step);
    seen.add(step);
    most = Math.max(most, step - (Number(new URL(location.href).searchParams.get("query")) - start));
    if (root.dataset.playing === "true") requestAnimationFrame(look);
    else done([[...seen], most]);
  };
  look();
})"""


NewGeneration = Callable[..., Generation]


@pytest.fixture
def generation(tab: NewTab, app_url: str) -> NewGeneration:
    """generation(**address): a person who opens the Generation page."""
    return lambda **params: Generation(tab(app_url), app_url).open(**params)


def test_buttons_keys_and_picks_go_to_steps(generation: NewGeneration) -> None:
    here = generation(with_text=PROMPT, length=LENGTH)
    here.at(0)
    here.press("Next step")
    here.at(1)
    here.press("Previous step")
    here.at(0)
    expect(here.scrubber.get_by_role("button", name="Previous step")).to_be_disabled()
    here.slider.focus()
    here.page.keyboard.press("End")
    here.at(LENGTH - 1)
    here.page.keyboard.press("ArrowLeft")
    here.at(LENGTH - 2)
    here.chip(here.strip, START + 3).click()  # the third written token: step 2 wrote it
    here.at(2)
    here.chip(here.strip, 3).click()  # a token of the prompt: the key
    here.wait_for_params(key=3)
    here.at(2)
    here.pick(here.map, 5, 2)
    here.at(5)
    here.wait_for_params(key=2)


def test_the_page_shows_what_the_library_computes(generation: NewGeneration, smollm2: Model) -> None:
    here = generation(with_text=PROMPT, length=LENGTH, layer=20, head=4)
    here.slider.fill("3")
    here.at(3)
    trace = smollm2.generate(PROMPT, max_new_tokens=LENGTH)
    table, moved, jumps = steps(trace), movement(trace, Head(20, 4)), shift(trace, Head(20, 4))
    expect(here.scrubber.locator("bdi.token")).to_have_text(table.token[3])
    expect(here.scrubber.locator(".detail")).to_have_text(
        f"rank 1, probability {table.probability[3]:.4f} · head moved {jumps[3]:.3f} nats"
    )
    here.wait_for_values(here.map, moved.weights, atol=1e-6)
    row = moved.weights[3]
    shown = here.strip.locator(".readout").inner_text()
    key = int(re.match(r"key (\d+)", shown)[1])  # type: ignore[index]
    assert float(shown.rsplit(" ", 1)[1]) == pytest.approx(row[key], abs=5.1e-5)
    expect(here.strip.locator(".chip.unseen")).to_have_count(int(np.isnan(row).sum()))


def test_playing_goes_through_all_steps_and_never_ahead_of_the_picture(generation: NewGeneration) -> None:
    here = generation(with_text=PROMPT, length=LENGTH)
    here.at(0)
    here.scrubber.get_by_role("combobox", name="Speed").select_option("4")
    here.slider.focus()
    here.page.keyboard.press("Space")
    seen, ahead = here.scrubber.evaluate(_AHEAD, START)
    assert seen == list(range(min(seen), LENGTH))
    assert min(seen) <= 1
    assert ahead <= 1
    here.at(LENGTH - 1)
    here.scrubber.get_by_role("combobox", name="Speed").select_option("0.5")
    here.press("Play")  # from the end it starts again
    expect(here.scrubber).to_have_attribute("data-step", "1")
    here.press("Pause")
    expect(here.scrubber).to_have_attribute("data-playing", "false")
    here.settled()
    stopped = int(here.scrubber.get_attribute("data-step") or -1)
    assert 1 <= stopped < LENGTH - 1
    here.page.wait_for_timeout(2_200)  # longer than a step: that nothing comes cannot be waited for
    here.at(stopped)


def test_an_encoder_decoder_steps_through_what_it_writes(generation: NewGeneration) -> None:
    here = generation(model="dates")
    expect(here.strip.locator(".flow")).to_have_text("<s>1998-05-03</s>")
    here.chip(here.strip, 6).click()
    expect(here.scrubber).to_have_attribute("data-step", "5")
    expect(here.scrubber.locator("bdi.token")).to_have_text("0")
    here.chip(here.source, 11).click()
    here.wait_for_params(query=5, key=11)


def test_a_long_generation_tells_how_far_it_is_and_can_be_stopped(generation: NewGeneration) -> None:
    here = generation(with_text=PROMPT, length=2)
    text = here.page.get_by_role("textbox", name="Text", exact=True)
    text.fill("A very long story about a small grey cat begins when")
    slider = here.keyed("generation-length").get_by_role("slider")
    slider.press("End")
    here.button("Generate").click()
    expect(here.bar).to_contain_text(re.compile(r"Generating: \d+ of at most 200 tokens written.*about \d+ s left"))
    here.button("Cancel").click()
    expect(here.alerts).to_contain_text("Your text is kept")
    expect(text).to_have_value(re.compile("small grey cat"))
    slider.press("Home")
    here.button("Generate").click()
    here.wait_for_params(length=1)
    expect(here.strip).to_contain_text("grey")
    expect(here.map).to_be_visible()
    expect(here.scrubber).to_have_attribute("data-step", "0")


def test_hostile_text_stays_text_on_a_narrow_page(tab: NewTab, app_url: str) -> None:
    explore = Explore(tab(app_url), app_url).open(with_text=HOSTILE, length=6)
    here = explore.go(Generation)
    here.page.set_viewport_size({"width": 390, "height": 844})
    here.press("Next step")
    expect(here.scrubber).to_have_attribute("data-step", "1")
    here.settled()
    assert here.page.evaluate("window.__pwned === undefined")
    assert here.page.locator('img[src="x"]').count() == 0
    assert here.page.evaluate("document.documentElement.scrollWidth") <= 390
    box = here.scrubber.bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390
    expect(here.scrubber.locator(".stop").nth(1)).to_be_visible()  # they are laid out anew for the width
    stops = here.scrubber.locator(".stop").evaluate_all(
        "all => all.map(one => one.getBoundingClientRect()).map(box => [box.left, box.right])"
    )
    assert all(left[1] <= right[0] for left, right in pairwise(sorted(stops)))
