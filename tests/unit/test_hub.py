"""Models of the Hub by name: weighed before anything is fetched, and only what a model needs. A stand-in is the Hub."""

import json
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
from huggingface_hub.errors import LocalEntryNotFoundError

import attnviz
from attnviz import admitted, catalogue
from attnviz.admitted import files_to_take
from attnviz.errors import ModelError, ModelNotFound, UnsafeModel
from attnviz.settings import settings

COMMIT = "c0ffee" * 6 + "abcd"
WHOLE = {"config.json": 10, "model.safetensors": 1_000, "tokenizer.json": 20}


def taken(
    sizes: dict[str, int | None], *, most: int = 1_000, allow_pickle: bool = False, code: bool = False
) -> set[str]:
    return set(files_to_take("org/model", sizes, allow_pickle=allow_pickle, remote_code=code, most_bytes=most))


def test_only_settings_a_vocabulary_and_one_set_of_weights_are_taken() -> None:
    others = ("README.md", "pytorch_model.bin", "consolidated.safetensors", "onnx/model.onnx", "optimizer.pt", "run.py")
    assert taken(WHOLE | dict.fromkeys(others, 10**12)) == set(WHOLE)
    shards = {f"model-0000{n}-of-00002.safetensors": 500 for n in (1, 2)}
    index = {"model.safetensors.index.json": 5, "config.json": 5, "1_Pooling/config.json": 5}
    assert taken(shards | index) == set(shards | index)
    assert taken(WHOLE | dict.fromkeys(shards, 10**12)) == set(WHOLE)
    assert taken(WHOLE | {"model.py": 10, "deep/er.py": 10}, code=True) == {*WHOLE, "model.py", "deep/er.py"}


def test_what_weighs_too_much_is_refused() -> None:
    with pytest.raises(ModelError, match=r"org/model have 1,000 bytes; the most is 999.*ATTNVIZ_MODEL_BYTES"):
        taken(WHOLE, most=999)
    for name in ("config.json", "vocab.json"):
        with pytest.raises(ModelError, match=f"{name} has 1,000,000,000 bytes"):
            taken(WHOLE | {name: 10**9})
    with pytest.raises(ModelError, match=r"model\.py has"):
        taken(WHOLE | {"model.py": 10**9}, code=True)


def test_a_size_that_is_not_told_is_not_taken_for_small(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match=r"no size for model\.safetensors"):
        taken(WHOLE | {"model.safetensors": None})
    assert taken(WHOLE | {"README.md": None}) == set(WHOLE)
    monkeypatch.setattr(admitted, "MOST_FILES", 2)
    with pytest.raises(ModelError, match="3 files; at most 2"):
        taken(WHOLE)


def test_pickles_are_taken_only_where_somebody_said_so() -> None:
    pickled = {"config.json": 10, "pytorch_model.bin": 1_000, "training_args.bin": 10}
    with pytest.raises(UnsafeModel, match=r"pytorch_model\.bin"):
        taken(pickled)
    assert taken(pickled, allow_pickle=True) == {"config.json", "pytorch_model.bin"}
    with pytest.raises(ModelError, match="999"):
        taken(pickled, allow_pickle=True, most=999)
    assert taken(WHOLE | pickled, allow_pickle=True) == set(WHOLE)
    for lacking in ({"model.safetensors": 1}, {"config.json": 1}):
        with pytest.raises(ModelNotFound):
            taken(dict(lacking))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """hub(): a stand-in with one model, whose fetched files land in a cache as the Hub's client lays it out."""
    made = tmp_path / "made"
    tiny.grouped().save_pretrained(made)
    (made / "run.py").write_text("raise SystemExit")
    (made / "pytorch_model.bin").write_bytes(b"not opened")
    cache = tmp_path / "cache"
    here = cache / "models--org--model" / "snapshots" / COMMIT
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(catalogue, "hub_reachable", lambda: True)
    fetched: list[str] = []

    def model_info(_: Any, name: str, **asked: Any) -> Any:
        assert (name, asked["files_metadata"]) == ("org/model", True)
        files = [SimpleNamespace(rfilename=file.name, size=file.stat().st_size) for file in made.iterdir()]
        return SimpleNamespace(sha=COMMIT, siblings=files)

    def fetch(name: str, *, revision: str | None, allow_patterns: Any = (), local_files_only: bool = False) -> str:
        if local_files_only:
            ref = here.parents[1] / "refs" / (revision or "main")
            if not ref.is_file():
                raise LocalEntryNotFoundError("not here")
            return str(here.parent / ref.read_text())
        assert revision == COMMIT
        here.mkdir(parents=True)
        for file in made.iterdir():
            if any(fnmatch(file.name, pattern) for pattern in allow_patterns):
                fetched.append(file.name)
                (here / file.name).write_bytes(file.read_bytes())
        return str(here)

    monkeypatch.setattr(catalogue.HfApi, "model_info", model_info)
    monkeypatch.setattr(catalogue, "snapshot_download", fetch)
    monkeypatch.setattr(catalogue, "_tokenizer", lambda *_: None)  # this one has none
    return lambda: fetched


def test_a_model_of_the_hub_is_fetched_once_weighed_and_opens_again_without_it(
    hub: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = attnviz.load_model("org/model", device="cpu")
    assert (model.info.name, model.info.revision) == ("org/model", COMMIT)
    assert sorted(hub()) == ["config.json", "generation_config.json", "model.safetensors"]
    monkeypatch.setattr(catalogue, "hub_reachable", lambda: False)
    assert attnviz.load_model("org/model", device="cpu").info.revision == COMMIT
    assert len(hub()) == 3


def test_a_model_that_is_too_large_is_not_fetched_nor_opened_from_the_cache(
    hub: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = settings().model_copy(update={"model_bytes": 1_000})
    with monkeypatch.context() as patch:
        patch.setattr(catalogue, "settings", lambda: small)
        with pytest.raises(ModelError, match="the most is 1,000"):
            attnviz.load_model("org/model", device="cpu")
    assert hub() == []
    attnviz.load_model("org/model", device="cpu")
    monkeypatch.setattr(catalogue, "settings", lambda: small)
    monkeypatch.setattr(catalogue, "hub_reachable", lambda: False)
    with pytest.raises(ModelError, match="the most is 1,000"):
        attnviz.load_model("org/model", device="cpu")


@pytest.mark.parametrize("reachable", [True, False])
def test_an_index_of_the_hub_names_only_what_was_weighed(
    hub: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reachable: bool
) -> None:
    attnviz.load_model("org/model", device="cpu")
    here = tmp_path / "cache" / "models--org--model" / "snapshots" / COMMIT
    (here / "model.safetensors").rename(here / "model-00001-of-00001.safetensors")
    made = tmp_path / "made"
    (made / "model.safetensors").rename(made / "model-00001-of-00001.safetensors")
    monkeypatch.setattr(catalogue, "hub_reachable", lambda: reachable)
    monkeypatch.setattr(Path, "mkdir", lambda *_, **__: None)
    names = {"x": "model-00001-of-00001.safetensors", "y": "other.safetensors"}
    (here / "other.safetensors").write_bytes(b"not weighed")
    for folder in (here, made):
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    with pytest.raises(UnsafeModel, match=r"'other\.safetensors', which is not one of"):
        attnviz.load_model("org/model", device="cpu")
