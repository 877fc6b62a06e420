"""Limits, folders and addresses: from the environment (ATTNVIZ_MODELS_HELD=3), else from attnviz.toml.

The file is the one that ATTNVIZ_CONFIG names, or attnviz.toml in the working folder:

    models_held = 3
    model_dirs = ["/srv/models"]
"""

from __future__ import annotations

import os
import tomllib
from functools import cache
from pathlib import Path, PurePath
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from attnviz.errors import InputError

MOST_TOKENS = 4_096  # a side of a map
_PREFIX, _CONFIG, _FILE = "ATTNVIZ_", "ATTNVIZ_CONFIG", "attnviz.toml"
_SECRET = ("token", "password", "secret", "key")
_MASK = "••••"


class Settings(BaseSettings):
    """What an operator can set; sizes in bytes, characters, tokens or hours as the name says."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True, extra="forbid")

    default_model: str = "smollm2"
    models_held: int = Field(default=2, ge=1, description="models kept in memory; the least recently used is let go")
    cache_dir: Path | None = Field(
        default=None, description="where converted models are kept; None: the user's cache folder"
    )
    model_dirs: tuple[Path, ...] | None = Field(
        default=None,
        description="folders that models may be opened from in the app; None: any where the app listens on this "
        "machine only, else none",
    )
    model_bytes: int = Field(default=64 << 30, ge=1, description="weights of a model, of a folder or of the Hub")
    max_chars: int = Field(default=50_000, ge=1, description="characters of a text in the app")
    max_tokens: int = Field(default=2_048, ge=1, le=MOST_TOKENS, description="tokens of a text in the app")
    max_written: int = Field(default=200, ge=1, description="tokens that the app lets a model write")
    upload_bytes: int = Field(default=1_000 << 20, ge=1, description="a file that somebody uploads")
    work_at_once: int = Field(default=1, ge=1, description="pieces of work that run on one model at once")
    work_waiting: int = Field(default=64, ge=1, description="pieces of work that may wait for one model")
    work_seconds: float = Field(default=3_600.0, gt=0, description="seconds of work on one question, such as a sweep")
    away_seconds: float = Field(
        default=15.0, gt=0, description="how long work goes on for a browser that has gone: it may come back"
    )
    trace_cache_bytes: int = Field(
        default=1 << 30, ge=0, description="traces kept for quick return, all users together"
    )
    text_store_bytes: int = Field(
        default=64 << 20, ge=1, description="texts that links can restore, all users together"
    )
    data_dir: Path | None = Field(
        default=None, description="where corpora and their results are kept; None: the user's data folder"
    )
    store_url: SecretStr | None = Field(
        default=None,
        description="the database of findings, as SQLAlchemy has it; None: SQLite in the data folder",
    )
    findings_each: int = Field(default=2_000, ge=1, description="findings that one person keeps")
    guest_findings: int = Field(default=50, ge=1, description="findings that a guest keeps, who gave no name")
    finding_bytes: int = Field(default=16 << 20, ge=1, description="one finding as JSON, with its picture and evidence")
    store_bytes: int = Field(
        default=8 << 30, ge=1 << 20, description="all findings together, and their arrays; more are refused"
    )
    corpora_bytes: int = Field(
        default=4 << 30, ge=1 << 20, description="corpora and results kept; the least recently used corpora are let go"
    )
    corpus_texts: int = Field(default=20_000, ge=1, description="texts of a corpus; more are left out, and said")
    corpus_tokens: int = Field(
        default=512, ge=2, le=MOST_TOKENS, description="tokens of a text of a corpus; longer ones are left out"
    )
    text_hours: float = Field(
        default=24 * 7, gt=0, description="how long a link restores its text after it was last used"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="what is written to stderr: info has every piece of work, warning what failed"
    )

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], *sources: PydanticBaseSettingsSource, **named: PydanticBaseSettingsSource
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments first, then the environment, then the file."""
        return named["init_settings"], named["env_settings"], _File(settings_cls)


class _File(PydanticBaseSettingsSource):
    """The TOML file, if there is one."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        return self().get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        path = config_file()
        if path is None:
            return {}
        try:
            found = tomllib.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"The settings file {path} cannot be read: {error}. Mend it, or take it away.") from error
        return found


def config_file() -> Path | None:
    """The settings file that is read: the one of ATTNVIZ_CONFIG, else attnviz.toml where the process was started."""
    named = os.environ.get(_CONFIG)
    if named:
        return Path(named)
    return Path(_FILE) if Path(_FILE).is_file() else None


@cache
def settings() -> Settings:
    """The settings of this process, read once. InputError names what is wrong in them."""
    known = set(Settings.model_fields)
    given = {name for name in os.environ if name.upper().startswith(_PREFIX) and name.upper() != _CONFIG}
    unknown = sorted(name for name in given if name[len(_PREFIX) :].lower() not in known)
    if unknown:
        raise InputError(f"There is no setting {', '.join(unknown)}. Those that there are: {', '.join(sorted(known))}.")
    try:
        return Settings()
    except ValidationError as error:
        wrong = [(".".join(map(str, each["loc"])), each) for each in error.errors(include_url=False)]
        said = [
            f"there is no setting {name}" if each["type"] == "extra_forbidden" else f"{name}: {each['msg']}"
            for name, each in wrong
        ]
        raise InputError(
            f"The settings cannot be used: {'; '.join(said)}. Expected in the environment (ATTNVIZ_…) or in "
            f"{config_file() or _FILE}: {', '.join(sorted(known))}."
        ) from None


def shown(name: str, value: object) -> str:
    """A setting's value as people may see it: what is secret is masked, and so is a password in an address.

    Of a folder only its last part is told: where it lies is the operator's business.
    """
    if value is None:
        return ""
    if isinstance(value, SecretStr) or any(word in name.lower().split("_") for word in _SECRET):
        return _MASK
    if isinstance(value, tuple):
        return ", ".join(shown(name, part) for part in value)
    return last_part(without_password(str(value)))


def last_part(name: str) -> str:
    """Of a folder of this machine its last part; any other name as it is."""
    return PurePath(name).name or name if name.startswith(("/", "~", ".")) else name


def without_password(address: str) -> str:
    """An address without the user and password, and without the query, where one may stand, too."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return _MASK
    if not parts.scheme or not parts.netloc:
        return address
    host = parts.netloc.rpartition("@")[2]
    host = f"{_MASK}@{host}" if "@" in parts.netloc else host
    return parts._replace(netloc=host, query=_MASK if parts.query else "", fragment="").geturl()
