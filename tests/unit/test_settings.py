"""Settings: where they come from, what is refused, and what may be seen of them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from attnviz.errors import InputError
from attnviz.settings import Settings, config_file, settings, shown, without_password


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No setting of whoever runs the tests, and an empty working folder."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"ATTNVIZ_{name.upper()}", raising=False)
    monkeypatch.delenv("ATTNVIZ_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "attnviz.toml"
        path.write_text(text, "utf-8")
        return path

    return write


def test_the_file_sets_and_the_environment_wins(
    written: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    written('models_held = 5\nmax_chars = 10\nmodel_dirs = ["/srv/a", "/srv/b"]\n')
    monkeypatch.setenv("ATTNVIZ_MAX_CHARS", "20")
    found = settings()
    assert (found.models_held, found.max_chars, found.max_tokens) == (5, 20, 2_048)
    assert found.model_dirs == (Path("/srv/a"), Path("/srv/b"))


def test_another_file_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("models_held = 7\n", "utf-8")
    assert config_file() is None
    monkeypatch.setenv("ATTNVIZ_CONFIG", str(path))
    assert settings().models_held == 7


def test_folders_stand_in_the_environment_as_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTNVIZ_MODEL_DIRS", '["/srv/models"]')
    assert settings().model_dirs == (Path("/srv/models"),)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("modles_held = 3", "there is no setting modles_held"),
        ("models_held = 0", "models_held: Input should be greater than or equal to 1"),
        ('max_tokens = "many"', "max_tokens: "),
        ("models_held = ", "attnviz.toml cannot be read"),
        ('log_level = "loud"', "log_level: "),
    ],
)
def test_what_is_wrong_in_the_file_is_said(text: str, said: str, written: Callable[[str], Path]) -> None:
    written(text)
    with pytest.raises(InputError, match=said):
        settings()


def test_an_unknown_name_in_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTNVIZ_MODELS_HOLD", "3")
    with pytest.raises(InputError, match=r"no setting ATTNVIZ_MODELS_HOLD.*models_held"):
        settings()


def test_a_named_file_that_is_missing_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ATTNVIZ_CONFIG", str(tmp_path / "none.toml"))
    with pytest.raises(InputError, match=r"none\.toml cannot be read"):
        settings()


@pytest.mark.parametrize("name", ["hub_token", "store_password", "KEY", "client_secret"])
def test_a_secret_is_not_shown(name: str) -> None:
    assert "hunter2" not in shown(name, "hunter2")
    assert shown(name, None) == ""


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://ann:hunter2@db.example:5432/notes",
        "postgresql+psycopg://hunter2@db.example/notes",
        "https://db.example/notes?password=hunter2",
        "https://db.example/notes#hunter2",
        "https://[hunter2/",
    ],
)
def test_a_password_in_an_address_is_not_shown(address: str) -> None:
    assert "hunter2" not in shown("store_url", address)


def test_what_is_no_secret_is_shown_as_it_is() -> None:
    assert without_password("sqlite:///notes.db") == "sqlite:///notes.db"
    assert without_password("postgresql://db.example:5432/notes") == "postgresql://db.example:5432/notes"
    assert shown("models_held", 3) == "3"


def test_where_folders_lie_is_not_shown() -> None:
    told = shown("model_dirs", (Path("/srv/ann/a"), Path("b")))
    assert told == "a, b"
    assert shown("default_model", "/srv/ann/mine") == "mine"
    assert shown("default_model", "org/model") == "org/model"
    assert shown("cache_dir", Path("/")) == "/"


def test_the_address_of_the_store_is_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgresql+psycopg://ann:hunter2@db.example/notes"
    monkeypatch.setenv("ATTNVIZ_STORE_URL", url)
    found = settings()
    assert found.store_url is not None
    assert found.store_url.get_secret_value() == url
    for told in (shown("store_url", found.store_url), repr(found), found.model_dump_json()):
        assert not any(word in told for word in ("hunter2", "ann", "db.example"))
    monkeypatch.setenv("ATTNVIZ_FINDINGS_EACH", "0")
    settings.cache_clear()
    with pytest.raises(InputError, match="findings_each"):
        settings()
