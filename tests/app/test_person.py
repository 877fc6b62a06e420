"""Who somebody is: by the operator's login; where there is none by a typed name, which is worth nothing beside one."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit import config
from streamlit.errors import StreamlitAuthError
from streamlit.runtime.secrets import secrets_singleton
from streamlit.testing.v1 import AppTest

from attnviz.settings import settings
from attnviz.ui import login
from attnviz.ui.person import tidy

WAY = {"client_id": "c", "client_secret": "s", "server_metadata_url": "u"}
ANN = {
    "is_logged_in": True,
    "provider": "default",
    "iss": "https://id.example",
    "sub": "17",
    "name": "Ann\n Lee",
    "email": "ann@example.org",
    "email_verified": True,
}


def _page() -> None:
    import streamlit as st

    from attnviz.ui.person import how_to_be_known, is_known, person, person_control

    person_control()
    st.text(f"{person()}|{is_known()}|{how_to_be_known()}")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The server's data folder."""
    own = settings().model_copy(update={"data_dir": tmp_path})
    monkeypatch.setattr(login, "settings", lambda: own)
    return tmp_path


def visit(user: dict[str, Any] | None = None, auth: Any = WAY) -> AppTest:
    """A session on a server with a login."""
    tab = AppTest.from_function(_page)
    tab.secrets = {"auth": auth}
    tab.user = {"is_logged_in": False} if user is None else user
    return tab.run()


def name(tab: AppTest) -> str:
    assert not tab.exception
    return str(tab.text[0].value.split("|")[0])


def test_without_a_login_a_name_is_typed_and_nothing_is_said_of_secrets() -> None:
    tab = AppTest.from_function(_page).run()
    assert [field.label for field in tab.text_input] == ["Your name"]
    assert not tab.exception
    assert not tab.error
    tab.text_input(key="person-name").set_value("ann@example.org").run()
    assert tab.text[0].value == "ann@example.org|True|type your name first"


def test_whoever_signed_in_is_known_by_the_login_and_no_address_is_shown() -> None:
    tab = visit(ANN)
    assert name(tab) == f"Ann Lee #{name(tab)[-login.MARK_CHARS :]}"
    assert tab.text[0].value.split("|")[1:] == ["True", "sign in first"]
    assert tab.markdown[0].value == "Signed in as Ann Lee"
    assert [button.label for button in tab.button] == ["Sign out"]
    assert not tab.text_input
    assert name(tab).isprintable()


def test_beside_a_login_nobody_is_anybody_by_typing() -> None:
    tab = visit()
    tab.session_state["attnviz_person"] = "ann@example.org"  # typed before there was a login
    assert name(tab.run()).startswith("guest ")
    assert tab.text[0].value.split("|")[1:] == ["False", "sign in first"]
    assert not tab.text_input
    assert name(visit()) != name(tab)


@pytest.mark.parametrize("change", [{"sub": "18"}, {"iss": "https://other.example"}, {"provider": "other"}])
def test_another_provider_issuer_or_subject_is_somebody_else(change: dict[str, str]) -> None:
    signed = [name(visit(who, {**WAY, "other": WAY})) for who in (ANN, ANN | change)]
    assert [login.without_mark(one) for one in signed] == ["Ann Lee"] * 2
    assert signed[0] != signed[1]


def test_somebody_stays_who_they_were_when_the_login_calls_them_otherwise(folder: Path) -> None:
    first = name(visit(ANN))
    assert name(visit(ANN | {"name": "Ann Lee-Smith", "email": "else@example.org"})) == first
    assert [file.read_text() for file in (folder / "people").iterdir()] == ["Ann Lee"]
    assert (folder / "people").stat().st_mode & 0o777 == 0o700


def test_a_folder_that_cannot_be_written_locks_nobody_out(folder: Path) -> None:
    (folder / "people").write_text("a file where the folder should be")
    assert name(visit(ANN)).startswith("Ann Lee #")


@pytest.mark.parametrize(
    ("change", "called"),
    [
        ({"name": ""}, "ann"),
        ({"name": None, "preferred_username": "lee@example.org"}, "lee"),
        ({"name": "\u202e ", "email_verified": "true"}, "Somebody"),
        ({"name": "x" * 500}, "x" * login.MOST_CHARS),
    ],
)
def test_what_somebody_is_called(change: dict[str, Any], called: str) -> None:
    assert login.without_mark(name(visit(ANN | change))) == called


@pytest.mark.parametrize("change", [{"is_logged_in": "yes"}, {"sub": ""}, {"iss": None}, {"provider": "gone"}])
def test_a_login_that_does_not_say_who_is_nobody(change: dict[str, Any]) -> None:
    assert name(visit(ANN | change)).startswith("guest ")


def test_a_header_without_a_login_is_nobody() -> None:
    tab = AppTest.from_function(_page)
    tab.user = dict(ANN)
    assert name(tab.run()).startswith("guest ")


def test_a_typed_name_passes_for_no_guest_and_no_login() -> None:
    signed = name(visit(ANN))
    for typed in ("guest 123", " Guest  123", signed, f"  {signed}\u200b"):
        assert tidy(typed) == ""
    assert tidy("Ann #1") == "Ann #1"


def test_each_provider_has_a_button(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(st, "login", asked.append)
    shared = {"redirect_uri": "r", "cookie_secret": "s"}
    assert [button.label for button in visit(auth=shared | {"one": WAY}).button] == ["Sign in"]
    tab = visit(auth=shared | {"one": WAY, "t*wo": WAY, "client_kwargs": {"prompt": "login"}})
    assert [button.label for button in tab.button] == ["Sign in with one", "Sign in with t\\*wo"]
    tab.button(key="sign-in-1").click().run()
    assert asked == ["t*wo"]


@pytest.mark.parametrize("auth", [{}, {"redirect_uri": "r"}, "what"])
def test_a_login_that_is_not_set_up_whole_lets_nobody_in(auth: Any) -> None:
    tab = visit(auth=auth)
    assert "Nobody can sign in" in tab.error[0].value.replace("\\", "")
    assert not tab.text_input
    assert name(tab).startswith("guest ")


@pytest.mark.parametrize("content", [b"[auth\nclient_id =", b"\xff", None])
def test_secrets_that_cannot_be_read_let_nobody_type_a_name(
    content: bytes | None, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "secrets.toml"
    path.write_bytes(content) if content else path.mkdir()
    options = config.get_option

    def get_option(name: str) -> Any:
        return [str(path)] if name == "secrets.files" else options(name)

    monkeypatch.setattr(config, "get_option", get_option)
    monkeypatch.setattr(st, "get_option", get_option)
    monkeypatch.setattr(secrets_singleton, "_secrets", None)
    tab = AppTest.from_function(_page).run()
    assert "Nobody can sign in" in tab.error[0].value.replace("\\", "")
    assert not tab.text_input


def test_why_nobody_can_sign_in_is_said_on_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(provider: str) -> None:
        raise StreamlitAuthError("the keys are missing")

    monkeypatch.setattr(st, "login", refuse)
    tab = visit()
    tab.button(key="sign-in-0").click().run()
    assert "the keys are missing" in tab.error[0].value.replace("\\", "")
    assert not tab.run().error


def _leaving() -> None:
    import streamlit as st

    from attnviz.ui.login import come_back, sign_in
    from attnviz.ui.session import selection, show

    come_back()
    show(selection())
    st.button("Go", on_click=sign_in, args=("default",))
    st.text(f"{selection().layer}")


def test_a_browser_comes_back_once_to_what_it_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    went: list[str] = []
    monkeypatch.setattr(st, "login", lambda provider: None)
    monkeypatch.setattr(st, "switch_page", went.append)
    monkeypatch.setattr(login, "_browser", lambda: hashlib.sha256(b"one").hexdigest())
    monkeypatch.setattr(login, "_page", lambda: "notebook")
    tab = AppTest.from_function(_leaving)
    tab.query_params["layer"] = "3"
    tab.run().button[0].click().run()

    monkeypatch.setattr(login, "_page", lambda: "explore")
    for layers, pages in ((["3"], ["pages/notebook.py"]), (["None"], [])):  # the second time nothing is left
        back = AppTest.from_function(_leaving)
        back.secrets, back.user = {"auth": WAY}, dict(ANN)
        assert [text.value for text in back.run().text] == layers
        assert went == pages
        went.clear()
