"""Signing in, in a real Chromium, at a provider of the test's own: what is kept is the login's, and nobody else's."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from driving import FIRST_PICTURE, Tab
from playwright.sync_api import Browser, expect
from provider import Provider, running_provider
from serving import WAIT, running_app
from test_notebook_in_chromium import Notebook

ANN = {"sub": "17", "name": "Ann Lee", "email": "ann@example.org", "email_verified": True}
BEN = {"sub": "18", "name": "Ann Lee", "email": "ann@example.org"}  # the same names, and somebody else
CLAIM = "L0H2 attends to the token before"


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with running_provider() as found:
        yield found


@pytest.fixture(scope="module")
def server(provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of an app with a login, and the folder of its data."""
    folder = tmp_path_factory.mktemp("login")
    (folder / "secrets.toml").write_text(provider.secrets_file(), "utf-8")
    outside = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    outside |= {"STREAMLIT_SECRETS_FILES": str(folder / "secrets.toml")}
    with running_app(ATTNVIZ_DATA_DIR=str(folder / "data"), ATTNVIZ_DEFAULT_MODEL="minilm", **outside) as url:
        yield url, folder


@pytest.fixture
def notebook(chromium: Browser, server: tuple[str, Path]) -> Iterator[Any]:
    """notebook(): the Notebook in a browser of its own, which may go to the provider and back."""
    contexts = []

    def make(**address: object) -> Notebook:
        context = chromium.new_context()
        context.set_default_timeout(WAIT)
        contexts.append(context)
        return Notebook(context.new_page(), server[0]).open(**address)

    yield make
    for context in contexts:
        context.close()


def sign_in(tab: Tab, *, name: str = "Ann Lee") -> None:
    tab.button("Sign in").click()
    expect(tab.says(f"Signed in as {name}")).to_be_visible(timeout=FIRST_PICTURE)
    tab.settled()


def keep(book: Notebook, claim: str) -> None:
    book.page.get_by_role("button", name="Write one down").click()
    expect(book.button("Keep it")).to_be_visible()
    book.settled()
    book.keyed("keep-notebook-claim").locator("textarea").fill(claim)
    book.button("Keep it").click()
    expect(book.says("Kept in your Notebook.")).to_be_visible()
    book.settled()


def test_what_a_login_keeps_is_its_own(notebook: Any, provider: Provider, server: tuple[str, Path]) -> None:
    book = notebook(layer=1, head=3, with_text=CLAIM)
    expect(book.page.get_by_role("textbox", name="Your name")).to_have_count(0)
    text = book.wait_for_params(layer="1", head="3", with_text=None).params()["text"]
    provider.claims = ANN
    sign_in(book)
    book.arrived(Notebook).wait_for_params(layer="1", head="3", text=text)  # where it was, and what it looked at
    expect(book.page.get_by_role("textbox", name="Your name")).to_have_count(0)
    keep(book, CLAIM)
    book.open()
    card = book.page.locator('[class*="st-key-notebook-card"]', has_text=CLAIM)
    expect(card).to_be_visible()
    assert "ann@example.org" not in book.page.content()
    assert not re.search(r"code=|state=|eyJ", book.page.url)

    book.button("Sign out").click()
    expect(book.button("Sign in")).to_be_visible(timeout=FIRST_PICTURE)
    book.open()
    expect(book.noted("You are a guest here")).to_be_visible()
    expect(card).to_have_count(0)

    provider.claims = BEN
    sign_in(book)
    expect(card).to_have_count(0)

    provider.claims = {**ANN, "name": "Ann Lee-Smith", "email": "other@example.org"}
    again = notebook()
    sign_in(again)  # under the name that she came with first
    expect(again.page.locator('[class*="st-key-notebook-card"]', has_text=CLAIM)).to_be_visible()
    assert len(list((server[1] / "data" / "people").iterdir())) == 2
