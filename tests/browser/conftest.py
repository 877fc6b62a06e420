"""One server and one Chromium for all browser tests, an empty tab a test; and nothing may leave the server."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from driving import Explore
from playwright.sync_api import Browser, Page, expect, sync_playwright
from serving import WAIT, Tabs, launch_chromium, running_app

expect.set_options(timeout=WAIT)

NewTab = Callable[..., Page]
NewExplore = Callable[..., Explore]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """These tests come last: Playwright keeps an event loop running in the main thread as long as it is open."""
    items.sort(key=lambda item: item.path.parent == Path(__file__).parent)


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server keeps its corpora."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def app_url(data_folder: Path) -> Iterator[str]:
    # All three embedded models stay: reading them again is not what is tested here.
    with running_app(ATTNVIZ_DATA_DIR=str(data_folder), ATTNVIZ_MODELS_HELD="3") as url:
        yield url


@pytest.fixture(scope="session")
def harness_url() -> Iterator[str]:
    """The components alone, on numbers of numpy's."""
    with running_app("tests/browser/harness_components.py") as url:
        yield url


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = launch_chromium(playwright)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def tabs(chromium: Browser) -> Tabs:
    return Tabs(chromium)


@pytest.fixture
def tab(tabs: Tabs) -> Iterator[NewTab]:
    """tab(address of a server, **context options): an empty tab, which may ask nobody but that server.

    A second one in the same test is another person's. At the end none may have asked anybody else, nor complained.
    """
    yield tabs.new
    watches = tabs.empty()
    assert [stray for watch in watches for stray in watch.strays] == []
    assert [words for watch in watches for words in watch.complaints] == []
    assert all(watch.requests for watch in watches)


@pytest.fixture
def visit(tab: NewTab, app_url: str) -> NewExplore:
    """visit(address, **context options): a person who opens the Explore page in a browser of their own."""

    def make(query: str = "", **options: Any) -> Explore:
        explore = Explore(tab(app_url, **options), app_url)
        explore.open(query)
        return explore

    return make
