"""Which checkpoints are opened at all: where a folder may lie, and how much may be in it. Nothing is read before."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from pathlib import Path, PurePosixPath

from attnviz.errors import ModelError, ModelNotFound, UnsafeModel
from attnviz.opening import PICKLE

MOST_FILES = 2_000
CONFIG_BYTES = 8 << 20  # of config.json and what else says how a model is built: the largest seen have 50 kB
TOKENIZER_BYTES = 256 << 20  # of a file beside the weights: the largest vocabularies have some 30 MB
INDEX_BYTES = 32 << 20  # of what says which file holds which weights: the largest seen have 13 MB
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".msgpack", ".onnx")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")
_BESIDE = (".json", ".txt", ".model", ".jinja", ".spm", ".tiktoken")  # settings and vocabularies
POOLING = "1_Pooling/config.json"  # where sentence-transformers writes how states are pooled
ADAPTER = "adapter_config.json"  # names another model, which would be opened in this one's place
_INDEX = ".index.json"
_WHOLE = ("model.safetensors", "pytorch_model.bin")  # the names that transformers looks for
_SHARD = r"{stem}-\d{{5}}-of-\d{{5}}{kind}"


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
    weights = _check_sizes(path, most_bytes)
    _check_links(path)
    check_files(path, weights, allow_pickle=allow_pickle)
    if any(file.endswith(".safetensors") for file in weights):
        return
    pickles = sorted(file.name for kind in _PICKLES for file in path.glob(f"*{kind}"))
    if not pickles:
        raise ModelNotFound(
            f"The folder {path} has a config.json but no weights; expected model.safetensors beside it."
        )
    if not allow_pickle:
        raise UnsafeModel(PICKLE.format(name=path, what=", ".join(pickles[:3])))


def check_files(path: Path, weights: Collection[str], *, allow_pickle: bool) -> None:
    """Raise where a checkpoint names another to open, or an index names weights that were not weighed.

    path      its folder, or a snapshot in the Hub's cache
    weights   the names of the files that were weighed
    raises    UnsafeModel, ModelError
    """
    if (path / ADAPTER).exists():
        raise ModelError(
            f"{path} has an adapter, which names another model ({ADAPTER}). Merge it in (merge_and_unload); save that."
        )
    for index in path.glob(f"*.safetensors{_INDEX}"):
        _check_index(index, weights, (".safetensors",))
    for index in path.glob(f"*.bin{_INDEX}") if allow_pickle else ():
        _check_index(index, weights, (".bin", ".safetensors"))


def _check_links(path: Path) -> None:
    real = path.resolve()
    homes = [real] if real.parent.name != "snapshots" else [real, real.parents[1] / "blobs"]  # as the Hub's cache links
    for file in (*path.iterdir(), path / POOLING):
        if not _lies_in(file, homes):
            raise UnsafeModel(f"{file} is a link out of its folder, which is not followed: put the file itself there.")


def _lies_in(file: Path, homes: Sequence[Path]) -> bool:
    try:
        return any(file.resolve().is_relative_to(home) for home in homes)
    except (OSError, RuntimeError):  # links in a circle
        return False


def _check_index(index: Path, weights: Collection[str], kinds: tuple[str, ...]) -> None:
    try:
        files = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{index} is damaged. Fetch or save the checkpoint again.") from error
    whole = index.name.removesuffix(_INDEX)
    read = whole in _WHOLE and whole not in weights  # not those of other copies, nor one beside the whole file
    for file in sorted(map(str, files)):
        if PurePosixPath(file).name != file or "\\" in file or not file.endswith(kinds):
            raise UnsafeModel(f"{index} names {file[:100]!r}; expected a {kinds[0]} file beside it.")
        if not read or file in weights:
            continue
        if (index.parent / file).exists():
            raise UnsafeModel(f"{index} names {file[:100]!r}, which is not one of the weights that were weighed.")
        raise ModelError(
            f"{index} names {file[:100]!r}, which is not there. Fetch or save the checkpoint again, whole."
        )


def files_to_take(
    name: str, sizes: Mapping[str, int | None], *, allow_pickle: bool, remote_code: bool, most_bytes: int
) -> tuple[str, ...]:
    """What is taken of a repository on the Hub: settings, vocabularies, and one set of weights; else nothing is.

    sizes         of all its files in bytes, by path; None: the Hub did not say
    remote_code   take its Python, too
    most_bytes    of its weights, all files together
    raises        ModelNotFound, UnsafeModel, ModelError
    """
    top = [file for file in sizes if "/" not in file]
    if "config.json" not in top:
        raise ModelNotFound(f"{name} has no config.json. Expected a checkpoint that save_pretrained made.")
    weights = _weights(top, "model", ".safetensors")
    pickles = sorted(file for file in top if file.endswith(_PICKLES))
    if not weights and pickles and not allow_pickle:
        raise UnsafeModel(PICKLE.format(name=name, what=", ".join(pickles[:3])))
    weights = weights or _weights(top, "pytorch_model", ".bin")
    if not weights:
        raise ModelNotFound(f"{name} has a config.json but no weights; expected model.safetensors beside it.")
    beside = [file for file in top if file.endswith(_BESIDE) and file != ADAPTER] + [POOLING] * (POOLING in sizes)
    code = [file for file in sizes if file.endswith(".py")] if remote_code else []
    taken = (*beside, *code, *weights)
    unknown = [file for file in taken if sizes[file] is None]
    if unknown or len(taken) > MOST_FILES:
        why = f"no size for {', '.join(unknown[:3])}" if unknown else f"{len(taken):,} files; at most {MOST_FILES:,}"
        raise ModelError(f"{name} is not fetched: the Hub gives {why}. Fetch it into a folder yourself, and open that.")
    for file in (*beside, *code):
        _check_beside(PurePosixPath(file).name, f"{name}: {file}", sizes[file] or 0)
    _check_weights(f"of {name}", sum(sizes[file] or 0 for file in weights), most_bytes)
    return taken


def _weights(files: Sequence[str], stem: str, kind: str) -> list[str]:
    """The whole weights, else their shards, as transformers looks for them; other copies are left out."""
    shard = re.compile(_SHARD.format(stem=stem, kind=re.escape(kind)))
    return [f"{stem}{kind}"] if f"{stem}{kind}" in files else sorted(filter(shard.fullmatch, files))


def _check_sizes(path: Path, most_bytes: int) -> dict[str, int]:
    """The weights in a folder and their sizes in bytes."""
    weights: dict[str, int] = {}
    for n_files, file in enumerate((path / POOLING, *islice(path.iterdir(), MOST_FILES + 1))):
        if n_files > MOST_FILES:
            raise ModelError(f"The folder {path} has more than {MOST_FILES:,} files; a checkpoint has a few.")
        if not file.is_file():
            if file.exists() and not file.is_dir():
                raise ModelError(f"{file} is neither a file nor a folder: it is not read.")
            continue
        size = file.stat().st_size  # of what a link points to
        if file.suffix in _WEIGHTS:
            weights[file.name] = size
        elif file.suffix in (*_BESIDE, ".py"):
            _check_beside(file.name, str(file), size)
    _check_weights(f"in {path}", sum(weights.values()), most_bytes)
    return weights


def _check_beside(file: str, called: str, size: int) -> None:
    most = CONFIG_BYTES if file.endswith(("config.json", ".py")) else TOKENIZER_BYTES
    most = INDEX_BYTES if file.endswith(_INDEX) else most
    if size > most:
        raise ModelError(f"{called} has {size:,} bytes; at most {most:,} are read of such a file.")


def _check_weights(where: str, size: int, most_bytes: int) -> None:
    if size > most_bytes:
        raise ModelError(
            f"The weights {where} have {size:,} bytes; the most is {most_bytes:,}. Choose a smaller model, or set "
            "ATTNVIZ_MODEL_BYTES."
        )
