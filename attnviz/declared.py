"""What a checkpoint's settings would take in memory, reckoned before any of it is taken.

transformers makes room for what config.json declares and only then looks at what the weights hold: a folder of a few
kilobytes could ask for any amount. So the model is first built of shapes alone (torch's meta device, as transformers
itself does), and these are compared with the shapes that the weights' headers tell.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch.overrides import TorchFunctionMode

from attnviz.errors import ModelError, UnsafeModel

MOST_COUNT = 1 << 16  # of layers, heads, experts, labels: Python loops over these before a model is there
MOST_CALLS = 100_000  # of torch while shapes are made, some three seconds: SmolLM2-135M takes 800
SPARE = 1 << 24  # values that a checkpoint may lack: a pooler that it never had, tables that are computed
BUFFER_BYTES = 256 << 20  # of masks and tables that no checkpoint holds, over what its weights have
_PACKED = 16  # values in one stored number of a quantised checkpoint, at most: 2 bits each in an int32
_COUNTS = re.compile(r"layer|block|depth|expert|head|group|label|stage|cycle|loop|codebook")
_NO_COUNT = re.compile(r"token|_ids?$")
_FILE = re.compile(r"[^/\\\0]+\.safetensors|model\.safetensors\.index\.json")


def check_settings(settings: Any, name: str) -> None:
    """Raise where what config.json says cannot be a model's: endless loops, or weights from somewhere else.

    settings   as json reads it
    raises     ModelError, UnsafeModel
    """
    for key, value in _settings(settings):
        if isinstance(value, int | float) and value > MOST_COUNT and _COUNTS.search(key) and not _NO_COUNT.search(key):
            raise ModelError(
                f"The config.json of {name} has {key} = {str(value)[:30]}; at most {MOST_COUNT:,} is read."
            )
        if key == "transformers_weights" and value is not None and not _FILE.fullmatch(str(value)):
            raise UnsafeModel(
                f"The config.json of {name} takes its weights from {str(value)[:100]!r}, not from beside it."
            )
        if key.endswith("attn_implementation") and "/" in str(value):
            raise UnsafeModel(f"The config.json of {name} asks for a program from the Hub ({str(value)[:100]!r}).")


def is_quantised(settings: Any) -> bool:
    return any(key == "quantization_config" and value for key, value in _settings(settings, whole=True))


def of_shapes(loader: Any, config: Any, dtype: torch.dtype, name: str) -> Any:
    """The model that a loader (an auto class of transformers) makes of a config, on the meta device: without values."""
    with torch.device("meta"), _Counted(name):
        return loader.from_config(copy.deepcopy(config), dtype=dtype, trust_remote_code=False)


def stored_values(files: Sequence[Path]) -> int:
    """How many numbers safetensors files hold, by their headers."""
    total = 0
    for file in files:
        with safe_open(file, framework="pt") as opened:
            total += sum(prod(opened.get_slice(key).get_shape()) for key in opened.keys())  # noqa: SIM118 (no dict)
    return total


def check_declared(shapes: Any, files: Sequence[Path], name: str, *, quantised: bool, most_bytes: int) -> None:
    """Raise ModelError where a model would take more memory than it may, or far more than its weights fill.

    shapes       the model on the meta device
    files        its safetensors; none: a pickle that the caller trusts
    most_bytes   of its parameters and buffers, in the dtype that it is opened in
    """
    held = sum(part.numel() * part.element_size() for part in shapes.parameters())
    buffers = sum(part.numel() * part.element_size() for part in shapes.buffers())
    if held + buffers > most_bytes:
        raise ModelError(
            f"By its config.json {name} would take {held + buffers:,} bytes; the most is {most_bytes:,}. Choose a "
            'smaller model, dtype="bfloat16", or set ATTNVIZ_MODEL_BYTES.'
        )
    if not files:
        return
    declared, stored = sum(part.numel() for part in shapes.parameters()), stored_values(files)
    if declared > (_PACKED if quantised else 2) * stored + SPARE:
        raise ModelError(
            f"The config.json of {name} declares {declared:,} weights, and its files hold {stored:,}. Fetch or save "
            "the checkpoint again, whole."
        )
    if buffers > sum(file.stat().st_size for file in files) + BUFFER_BYTES:
        raise ModelError(
            f"By its config.json {name} would take {buffers:,} bytes beside its weights, and has none of it."
        )


class _Counted(TorchFunctionMode):
    """Ends what calls torch without end. A mode of one thread: others' work goes on as it was."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name, self.calls = name, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls += 1
        if self.calls > MOST_CALLS:
            raise ModelError(f"The config.json of {self.name} declares more parts than a model has: it is not opened.")
        return func(*args, **(kwargs or {}))


def _settings(value: Any, key: str = "", *, whole: bool = False) -> Iterator[tuple[str, Any]]:
    """All settings, those within others too, by their nearest name; `whole`: also those that hold others."""
    waiting = [(key, value)]
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [(str(name).lower(), held) for name, held in value.items()]
        elif isinstance(value, list):
            waiting += [(key, held) for held in value]
        if whole or not isinstance(value, dict | list):
            yield key, value
