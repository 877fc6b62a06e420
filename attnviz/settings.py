"""Limits and folders, from the environment: ATTNVIZ_MODELS_HELD=3 and so on."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

MOST_TOKENS = 4_096  # a side of a map


class Settings(BaseSettings):
    """What an operator can set; sizes in bytes, characters, tokens or hours as the name says."""

    model_config = SettingsConfigDict(env_prefix="ATTNVIZ_", frozen=True)

    default_model: str = "smollm2"
    models_held: int = Field(default=2, ge=1, description="models kept in memory; the least recently used is let go")
    cache_dir: Path | None = Field(
        default=None, description="where converted models are kept; None: the user's cache folder"
    )
    max_chars: int = Field(default=50_000, ge=1, description="characters of a text in the app")
    max_tokens: int = Field(default=2_048, ge=1, le=MOST_TOKENS, description="tokens of a text in the app")
    trace_cache_bytes: int = Field(
        default=1 << 30, ge=0, description="traces kept for quick return, all users together"
    )
    text_store_bytes: int = Field(
        default=64 << 20, ge=1, description="texts that links can restore, all users together"
    )
    data_dir: Path | None = Field(
        default=None, description="where corpora and their results are kept; None: the user's data folder"
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


@cache
def settings() -> Settings:
    """The settings of this process, read once."""
    return Settings()
