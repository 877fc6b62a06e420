"""What the About page tells: versions, memory, the lines of the models, settings. Nothing of it is a secret."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import streamlit as st

from attnviz.catalogue import pick_device
from attnviz.logs import short
from attnviz.models import Model
from attnviz.settings import Settings, config_file, settings, shown
from attnviz.ui.jobs import lines
from attnviz.ui.session import stores

_PACKAGES = ("attnviz", "torch", "transformers", "tokenizers", "safetensors", "huggingface_hub", "streamlit", "plotly")
Rows = list[dict[str, str]]


def versions() -> Rows:
    """Of Python and of the packages that the numbers depend on."""
    found = [("Python", platform.python_version()), *((name, _version(name)) for name in _PACKAGES)]
    return [{"what": name, "version": number} for name, number in found]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def memory() -> Rows:
    """What is held, by whom, and the most where there is a limit."""
    kept, limits = stores(), settings()
    device = pick_device("auto")
    rows = [
        {"what": f"Model {short(name)}", "held": _size(model_bytes(model)), "most": f"{limits.models_held} models"}
        for name in kept.models.names()
        if (model := kept.models.get(name)) is not None
    ]
    rows += [
        {"what": "Traces and results", "held": _size(kept.traces.nbytes), "most": _size(limits.trace_cache_bytes)},
        {"what": "Opened trace files", "held": _size(kept.saved.nbytes), "most": _size(limits.trace_cache_bytes)},
        {"what": "Texts behind links", "held": _size(kept.texts.nbytes), "most": _size(limits.text_store_bytes)},
    ]
    resident = resident_bytes()
    if resident is not None:
        rows.append({"what": "The whole process, shared libraries included", "held": _size(resident), "most": ""})
    return [*rows, {"what": "Device for new models", "held": str(device), "most": ""}]


def model_bytes(model: Model) -> int:
    """Of a model's weights; tied ones count once."""
    weights = {parameter.data_ptr(): parameter.nbytes for parameter in model.hf_model.parameters()}
    return sum(weights.values())


def resident_bytes() -> int | None:
    """Of this process in memory; None where the system does not say."""
    try:
        fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text("utf-8").splitlines())
        return int(fields["VmRSS"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None


def queues() -> Rows:
    """The line of every model that somebody works with."""
    return [
        {
            "model": short(name),
            "working": str(state.working),
            "waiting": str(state.waiting),
            "a turn of late": f"{state.turn_seconds:.1f} s",
        }
        for name, state in lines().states().items()
    ]


def set_by_operator() -> Rows:
    """Every setting, its value here, and what it is; what is secret is masked."""
    found, limits = [], settings()
    for name, field in Settings.model_fields.items():
        value = getattr(limits, name)
        found.append(
            {
                "setting": f"ATTNVIZ_{name.upper()}",
                "here": shown(name, value),
                "set": "" if value == field.default else "by the operator",
                "what it is": field.description or "",
            }
        )
    return found


def file_words() -> str:
    path = config_file()
    return "no settings file" if path is None else f"the settings file {path.name}"


def table(rows: Rows, *, key: str) -> None:
    st.dataframe(rows, hide_index=True, key=key, width="stretch")


def _size(nbytes: int) -> str:
    return f"{nbytes / 1e9:,.2f} GB" if nbytes >= 1e9 else f"{nbytes / 1e6:,.1f} MB"
