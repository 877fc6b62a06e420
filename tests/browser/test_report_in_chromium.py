"""A report of ten findings opens from a disk with the network off, draws every figure, and asks nobody."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Route
from reported import ten
from serving import WAIT

from attnviz import report
from attnviz.report.web import _plotly

FIGURES = sum(len(one.evidence) for one in ten()) + sum(bool(one.figure) for one in ten())
DRAWN = """() => [...document.querySelectorAll('.js-plotly-plot')].map(plot => ({
  points: plot.querySelectorAll('svg.main-svg .point, svg.main-svg image').length,
  wide: plot.querySelector('svg.main-svg').getBoundingClientRect().width,
  tall: plot.querySelector('svg.main-svg').getBoundingClientRect().height,
  below: plot.parentElement.querySelector('figcaption').getBoundingClientRect().top,
  bottom: plot.getBoundingClientRect().bottom,
}))"""
PAPERS = """() => [...document.querySelectorAll('.js-plotly-plot')].map(
  plot => getComputedStyle(plot.querySelector('svg.main-svg')).backgroundColor)"""
LIGHT, DARK = "rgb(255, 255, 255)", "rgb(14, 17, 23)"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report.write(tmp_path_factory.mktemp("report") / "ten.html", ten(), title="Ten findings")


@pytest.fixture
def opened(chromium: Browser, file: Path) -> Iterator[Page]:
    """The report in a context without a network; at the end it has asked for itself alone, and said nothing."""
    context = chromium.new_context(viewport={"width": 1100, "height": 1200}, color_scheme="light")
    context.set_offline(True)
    context.set_default_timeout(WAIT)
    asked: list[str] = []
    said: list[str] = []

    def only_files(route: Route) -> None:
        route.continue_() if route.request.url.startswith("file:") else route.abort()

    def listen(message: ConsoleMessage) -> None:
        said.append(message.text)

    context.route("**/*", only_files)
    context.on("request", lambda request: asked.append(request.url))
    context.on("console", listen)
    context.on("weberror", lambda web: said.append(str(web.error)))
    context.on("dialog", lambda dialog: said.append(dialog.message))
    page = context.new_page()
    page.goto(file.as_uri())
    page.wait_for_selector("body[data-drawn]")
    yield page
    context.close()
    assert asked == [file.as_uri()]
    assert said == []


def test_every_figure_is_there_without_a_network(opened: Page) -> None:
    drawn = opened.evaluate(DRAWN)
    assert len(drawn) == opened.locator("[data-figure]").count() == FIGURES == 10
    assert opened.locator(".js-plotly-plot").filter(has=opened.locator("svg.main-svg")).count() == FIGURES
    for one in drawn:
        assert one["points"] > 0
        assert one["wide"] > 600
        assert one["tall"] > 200
        assert one["bottom"] <= one["below"]
    assert opened.get_by_text("could not be drawn").count() == 0


def test_a_stranger_s_words_do_nothing(opened: Page) -> None:
    assert opened.evaluate("window.__pwned") is None
    assert opened.locator("img, iframe, form, object").count() == 0
    assert opened.locator("a:not([href^='#finding-'])").count() == 0
    opened.get_by_role("link", name="The key that is looked at is the year").click()
    assert opened.url.endswith("#finding-9")
    assert opened.locator("#finding-9").is_visible()


def test_a_script_that_slipped_in_would_not_run(opened: Page, file: Path) -> None:
    """The policy is the second wall, which a hole in the first one needs; a document with a hole in it shows that."""
    torn = file.with_name("torn.html")
    hole = '<h1><script>window.__pwned=1</script><b onclick="window.__pwned=2">b</b>'
    torn.write_text(file.read_text("utf-8").replace("<h1>", hole, 1), "utf-8")
    context = opened.context.browser.new_context()  # type: ignore[union-attr]
    page = context.new_page()
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text))
    page.goto(torn.as_uri())
    page.wait_for_selector("body[data-drawn]")
    page.locator("h1 b").click()
    assert page.evaluate("window.__pwned") is None
    assert any("Content Security Policy" in words for words in refused)
    context.close()


def test_dark_and_print(opened: Page) -> None:
    kept = FIGURES - 1  # as its author saw it, on light paper
    opened.emulate_media(color_scheme="dark")
    opened.wait_for_function(f"() => ({PAPERS})().filter(paper => paper === '{DARK}').length === {kept}")
    assert opened.evaluate("getComputedStyle(document.body).backgroundColor") == DARK
    opened.emulate_media(color_scheme="dark", media="print")
    opened.wait_for_function(f"() => ({PAPERS})().every(paper => paper === '{LIGHT}')")
    assert opened.evaluate("getComputedStyle(document.body).backgroundColor") == LIGHT
    assert opened.pdf(format="A4").startswith(b"%PDF")


def test_plotly_stands_in_it_once_and_the_rest_is_small(file: Path) -> None:
    text = file.read_text("utf-8")
    assert text.count(_plotly()) == 1
    assert len(text) - len(_plotly()) < 400_000
