"""Which folders a model may be opened from, and how much may be in one."""

import json
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

    def make(**sizes: int) -> Path:
        path = tmp_path / "allowed" / "model"
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
