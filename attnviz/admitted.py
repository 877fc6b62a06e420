"""Which checkpoints are opened at all: where a folder may lie, and how much may be in it. Nothing is read before."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from attnviz.errors import ModelError, ModelNotFound, UnsafeModel
from attnviz.opening import PICKLE

MOST_FILES = 2_000
CONFIG_BYTES = 8 << 20  # of config.json and what else says how a model is built: the largest seen have 50 kB
TOKENIZER_BYTES = 256 << 20  # of a file beside the weights: the largest vocabularies have some 30 MB
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".msgpack", ".onnx")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")


def folder_of(name: str) -> Path | None:
    """The folder that a model's name means, if it is one."""
    try:
        path = Path(name).expanduser()
        return path if name and path.is_dir() else None
    except (OSError, RuntimeError, ValueError):  # too long, nobody's home, a null character
        return None


def check_place(name: str, allowed: Sequence[Path] | None, *, only_these: bool = False) -> None:
    """Raise UnsafeModel unless a name is no folder, or one within `allowed` once all its links are followed.

    allowed      None: any, or none where only_these is set
    Whether a folder that is not allowed is there is not told.
    """
    if allowed is None and not only_these:
        return
    name = name.strip()
    path = Path(name)
    if path.parts and not (path.is_absolute() or name.startswith(("~", ".")) or folder_of(name) is not None):
        return  # a name on the Hub
    try:
        real = path.expanduser().resolve()
        within = any(real.is_relative_to(folder.expanduser().resolve()) for folder in allowed or ())
    except (OSError, RuntimeError, ValueError):
        within = False
    if not within:
        raise UnsafeModel(
            "This server opens models from the folders that its operator allows, and this is not in one of them. Name "
            "a model on the Hub, or have the operator add the folder to ATTNVIZ_MODEL_DIRS."
        )


def check_folder(path: Path, *, allow_pickle: bool, most_bytes: int) -> None:
    """Raise unless a folder is a checkpoint that may be read: whole, of safetensors, and within the limits.

    most_bytes   of its weights, all files together
    raises       ModelNotFound, UnsafeModel, ModelError
    """
    if not (path / "config.json").is_file():
        raise ModelNotFound(
            f"The folder {path} has no config.json. Expected a checkpoint folder as save_pretrained makes it: "
            "config.json, model.safetensors and the tokenizer's files."
        )
    _check_sizes(path, most_bytes)
    if any(path.glob("*.safetensors")):
        return
    pickles = sorted(file.name for kind in _PICKLES for file in path.glob(f"*{kind}"))
    if not pickles:
        raise ModelNotFound(
            f"The folder {path} has a config.json but no weights; expected model.safetensors beside it."
        )
    if not allow_pickle:
        raise UnsafeModel(PICKLE.format(name=path, what=", ".join(pickles[:3])))


def _check_sizes(path: Path, most_bytes: int) -> None:
    weights, n_files = 0, 0
    for file in path.iterdir():
        n_files += 1
        if n_files > MOST_FILES:
            raise ModelError(f"The folder {path} has more than {MOST_FILES:,} files; a checkpoint has a few.")
        if not file.is_file():
            continue
        size = file.stat().st_size  # of what a link points to
        if file.suffix in _WEIGHTS:
            weights += size
            continue
        most = CONFIG_BYTES if file.name.endswith("config.json") else TOKENIZER_BYTES
        if size > most and file.suffix in (".json", ".txt", ".model", ".jinja"):
            raise ModelError(f"{file} has {size:,} bytes; at most {most:,} are read of such a file.")
    if weights > most_bytes:
        raise ModelError(
            f"The weights in {path} have {weights:,} bytes; the most is {most_bytes:,}. Choose a smaller model, or set "
            "ATTNVIZ_MODEL_BYTES."
        )
