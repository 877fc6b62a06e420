"""Which folders a model may be opened from, and how much may be in one."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from attnviz import admitted
from attnviz.admitted import check_folder, check_place
from attnviz.errors import ModelError, ModelNotFound, UnsafeModel

LIMIT = 1_000


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """folder(name=size): a checkpoint's folder with files of so many bytes."""

    def make(at: str = "model", **sizes: int) -> Path:
        path = tmp_path / "allowed" / at
        path.mkdir(parents=True)
        (path / "config.json").write_text(json.dumps({}), "utf-8")
        for name, size in sizes.items():
            (path / name.replace("_dot_", ".")).write_bytes(bytes(size))
        return path

    return make


def test_weights_up_to_the_limit_are_taken_and_more_are_not(folder: Callable[..., Path]) -> None:
    path = folder(a_dot_safetensors=600, b_dot_safetensors=400)
    check_folder(path, allow_pickle=False, most_bytes=LIMIT)
    (path / "c.safetensors").write_bytes(b"1")
    with pytest.raises(ModelError, match=r"1,001 bytes; the most is 1,000.*ATTNVIZ_MODEL_BYTES"):
        check_folder(path, allow_pickle=False, most_bytes=LIMIT)


@pytest.mark.parametrize(
    ("name", "constant"), [("tokenizer_config_dot_json", "CONFIG_BYTES"), ("vocab_dot_txt", "TOKENIZER_BYTES")]
)
def test_a_large_file_beside_the_weights_is_refused(
    name: str, constant: str, folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder(a_dot_safetensors=1, **{name: 51})
    check_folder(path, allow_pickle=False, most_bytes=LIMIT)
    monkeypatch.setattr(admitted, constant, 50)
    with pytest.raises(ModelError, match="51 bytes; at most 50"):
        check_folder(path, allow_pickle=False, most_bytes=LIMIT)


def test_a_folder_of_very_many_files_is_refused(folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder(a_dot_safetensors=1, b=1, c=1)
    monkeypatch.setattr(admitted, "MOST_FILES", 3)
    with pytest.raises(ModelError, match="more than 3 files"):
        check_folder(path, allow_pickle=False, most_bytes=LIMIT)


def test_a_pickle_is_taken_only_where_somebody_said_so(folder: Callable[..., Path]) -> None:
    path = folder(model_dot_bin=1)
    with pytest.raises(UnsafeModel, match=r"model\.bin"):
        check_folder(path, allow_pickle=False, most_bytes=LIMIT)
    check_folder(path, allow_pickle=True, most_bytes=LIMIT)


def test_a_folder_without_weights_is_no_checkpoint(folder: Callable[..., Path]) -> None:
    with pytest.raises(ModelNotFound, match="no weights"):
        check_folder(folder(), allow_pickle=False, most_bytes=LIMIT)


def test_only_what_lies_in_the_allowed_folders_once_links_are_followed(
    folder: Callable[..., Path], tmp_path: Path
) -> None:
    path = folder(a_dot_safetensors=1)
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    allowed = [tmp_path / "allowed"]
    (allowed[0] / "out").symlink_to(outside)
    (tmp_path / "into").symlink_to(path)
    check_place(str(path), allowed)
    check_place(str(tmp_path / "into"), allowed)
    for name in (
        outside,
        allowed[0] / "out",
        allowed[0] / ".." / "elsewhere",
        tmp_path / "allowed-not",
        "/no/such/folder",
        "~/x",
        "..",
        " /etc",
        "/\0",
    ):
        with pytest.raises(UnsafeModel, match="ATTNVIZ_MODEL_DIRS") as refused:
            check_place(str(name), allowed)
        assert str(tmp_path) not in str(refused.value)


def test_a_folder_beside_the_app_is_one_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "org" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnsafeModel):
        check_place("org/model", None, only_these=True)
    check_place("org/other", None, only_these=True)
    check_place("org/model", None)


def index(path: Path, weight_map: object, *, kind: str = "model.safetensors") -> None:
    (path / f"{kind}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}), "utf-8")


@pytest.mark.parametrize(
    "file",
    [
        "w.bin",
        "../../elsewhere/secret.safetensors",
        "sub/a.safetensors",
        "..",
        "",
        "sub\\a.safetensors",
        3,
        None,
        "a.pt",
    ],
)
def test_an_index_names_safetensors_beside_it_and_nothing_else(file: object, folder: Callable[..., Path]) -> None:
    path = folder(a_dot_safetensors=1, w_dot_bin=1)
    for kind in ("model.safetensors", "model.fp16.safetensors", "other.safetensors"):
        index(path, {"x": "a.safetensors", "y": file}, kind=kind)
        with pytest.raises(UnsafeModel, match=r"index\.json names"):
            check_folder(path, allow_pickle=False, most_bytes=LIMIT)
        index(path, {"x": "a.safetensors"}, kind=kind)
        check_folder(path, allow_pickle=False, most_bytes=LIMIT)


def test_an_index_that_names_what_is_not_there(folder: Callable[..., Path]) -> None:
    path = folder(a_dot_safetensors=1)
    index(path, {"x": "a.safetensors", "y": "b.safetensors"})
    with pytest.raises(ModelError, match=r"'b\.safetensors', which is not there"):
        check_folder(path, allow_pickle=False, most_bytes=LIMIT)
    (path / "b.safetensors").mkdir()
    with pytest.raises(UnsafeModel, match="weighed"):
        check_folder(path, allow_pickle=False, most_bytes=LIMIT)
    (path / "b.safetensors").rmdir()
    (path / "model.safetensors").write_bytes(b"1")  # this whole file is read, and the index left over is not
    check_folder(path, allow_pickle=False, most_bytes=LIMIT)
    other = folder(a_dot_safetensors=1, at="other")
    index(other, {"x": "consolidated-1.safetensors"}, kind="consolidated.safetensors")  # of a copy that is not fetched
    check_folder(other, allow_pickle=False, most_bytes=LIMIT)


def test_an_index_of_pickles_is_read_where_pickles_are(folder: Callable[..., Path]) -> None:
    path = folder(w_dot_bin=1, a_dot_safetensors=1)
    index(path, {"x": "../w.bin"}, kind="pytorch_model.bin")
    check_folder(path, allow_pickle=False, most_bytes=LIMIT)
    with pytest.raises(UnsafeModel, match=r"names '\.\./w\.bin'"):
        check_folder(path, allow_pickle=True, most_bytes=LIMIT)
    index(path, {"x": "w.bin"}, kind="pytorch_model.bin")
    check_folder(path, allow_pickle=True, most_bytes=LIMIT)


@pytest.mark.parametrize("written", ["{", "[]", "{}", '{"weight_map": []}', '{"weight_map": {"x": {}}}', "[" * 100_000])
def test_a_damaged_index_is_called_damaged(written: str, folder: Callable[..., Path]) -> None:
    path = folder(a_dot_safetensors=1)
    (path / "model.safetensors.index.json").write_text(written)
    with pytest.raises(ModelError, match=r"index\.json"):
        check_folder(path, allow_pickle=False, most_bytes=LIMIT)


def test_a_large_index_is_refused(folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder(a_dot_safetensors=1)
    index(path, {"x": "a.safetensors"})
    monkeypatch.setattr(admitted, "INDEX_BYTES", 50)
    with pytest.raises(ModelError, match="at most 50"):
        check_folder(path, allow_pickle=False, most_bytes=LIMIT)


def test_links_stay_in_the_folder_or_the_cache_of_the_hub(folder: Callable[..., Path], tmp_path: Path) -> None:
    path = folder(a_dot_safetensors=1)
    outside = tmp_path / "secret"
    outside.write_bytes(b"1")
    (path / "b.safetensors").symlink_to("a.safetensors")
    check_folder(path, allow_pickle=False, most_bytes=LIMIT)
    (path / "1_Pooling").mkdir()
    for name, target in (
        ("model.safetensors", outside),
        ("vocab.txt", outside),
        ("1_Pooling/config.json", outside),
        ("round.txt", path / "round.txt"),
        ("gone.txt", tmp_path / "nothing"),
    ):
        (path / name).symlink_to(target)
        with pytest.raises(UnsafeModel, match="link out of its folder"):
            check_folder(path, allow_pickle=False, most_bytes=LIMIT)
        (path / name).unlink()
    cached = tmp_path / "models--org--model"
    (cached / "snapshots").mkdir(parents=True)
    path.rename(cached / "snapshots" / "c0ffee")
    (cached / "blobs").mkdir()
    (cached / "blobs" / "1234").write_bytes(b"1")
    (cached / "snapshots" / "c0ffee" / "model.safetensors").symlink_to("../../blobs/1234")
    check_folder(cached / "snapshots" / "c0ffee", allow_pickle=False, most_bytes=LIMIT)
    (cached / "snapshots" / "c0ffee" / "vocab.txt").symlink_to(outside)
    with pytest.raises(UnsafeModel, match=r"vocab\.txt is a link"):
        check_folder(cached / "snapshots" / "c0ffee", allow_pickle=False, most_bytes=LIMIT)


def test_an_adapter_and_a_pipe_are_not_read(folder: Callable[..., Path]) -> None:
    path = folder(a_dot_safetensors=1, adapter_config_dot_json=1)
    with pytest.raises(ModelError, match="merge_and_unload"):
        check_folder(path, allow_pickle=False, most_bytes=LIMIT)
    (path / "adapter_config.json").unlink()
    os.mkfifo(path / "vocab.json")
    with pytest.raises(ModelError, match="neither a file nor a folder"):
        check_folder(path, allow_pickle=False, most_bytes=LIMIT)
