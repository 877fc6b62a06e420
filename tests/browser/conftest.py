"""One server for all browser tests, one Chromium a module, a fresh context a test; and nothing may leave the server."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from driving import Explore, Watch, launch_chromium, running_app
from playwright.sync_api import Browser, BrowserContext, expect, sync_playwright

WAIT = 30_000  # milliseconds; two cores, shared, and a model that may have to be read again
expect.set_options(timeout=WAIT)

NewContext = Callable[..., BrowserContext]
NewExplore = Callable[..., Explore]


@pytest.fixture(scope="session")
def app_url() -> Iterator[str]:
    with running_app() as url:
        yield url


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    # A module's, since Playwright keeps an event loop running in the main thread as long as it is open.
    with sync_playwright() as playwright:
        browser = launch_chromium(playwright)
        yield browser
        browser.close()


@pytest.fixture(autouse=True)
def new_context(chromium: Browser, app_url: str) -> Iterator[NewContext]:
    """Makes browser contexts; at the end none may have asked anybody but the server, nor complained."""
    watched: list[tuple[BrowserContext, Watch]] = []

    def make(**options: Any) -> BrowserContext:
        context = chromium.new_context(**{"viewport": {"width": 1280, "height": 1900}, **options})
        context.set_default_timeout(WAIT)
        watched.append((context, Watch(context, app_url)))
        return context

    yield make
    for context, _ in watched:
        context.close()
    assert [stray for _, watch in watched for stray in watch.strays] == []
    assert [words for _, watch in watched for words in watch.complaints] == []
    assert all(watch.requests for _, watch in watched)


@pytest.fixture
def visit(new_context: NewContext, app_url: str) -> NewExplore:
    """visit(address, **context options): a person who opens the Explore page in a browser of their own."""

    def make(query: str = "", **options: Any) -> Explore:
        explore = Explore(new_context(**options).new_page(), app_url)
        explore.open(query)
        return explore

    return make
