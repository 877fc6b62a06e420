"""Head scales written into a checkpoint that transformers reads without us: tried first, then to be downloaded.

The server writes into a temporary folder alone, which is removed before the download begins.
"""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import pandas as pd
import streamlit as st
import torch

from attnviz import ablation, export
from attnviz.edits import Edit, Head, ScaleHeads
from attnviz.errors import InputError, Unsupported
from attnviz.layout import main_output
from attnviz.models import Model
from attnviz.ui import say, work
from attnviz.ui.ablation import finding
from attnviz.ui.ablation.pruning_lines import baking_lines
from attnviz.ui.ablation.subject import Subject
from attnviz.ui.jobs import Job
from attnviz.ui.session import act, selection, stores

MOST_BYTES = 1 << 30  # of a checkpoint: it is held in memory while it is downloaded, and a copy of the model before
_MOST_FIELDS = 24  # heads that have a field of their own
_SCALES, _ASKED = "attnviz_ablation_bake_scales", "attnviz_ablation_bake_asked"


@dataclass(frozen=True)
class Tried:
    """What came of baking, the copy itself let go.

    gap          the largest difference between the copy's output and the edited model's, on a short run
    here         the same on the page's text; `size` the largest number of the output there
    by_outcome   the page's outcome of the model, of it with the edit, and of the copy; None for one that compares with
                 the clean run: the copy's own clean run is the copy itself
    """

    title: str
    gap: float
    here: float
    size: float
    by_outcome: tuple[float, ...] | None


def baked(subject: Subject) -> None:
    """The scales of the chosen heads, the button, what was measured, and the download."""
    with st.expander("Bake: write scales of these heads into a checkpoint", expanded=_ASKED in st.session_state):
        if not subject.heads:
            say.caption("No head is in the set. Choose heads above, and say by how much each is to be scaled.")
            return
        scales = _scale_fields(subject)
        size = checkpoint_bytes(subject.model)
        say.caption(
            "A head of scale 0 leaves zeros in the file: nothing gets smaller or faster. A scale stands in the columns "
            "of the output projection that read its head, and holds at every position.",
            "Nothing is resampled or held at a mean here, whatever the page does above: zero is off-distribution.",
        )
        if size > MOST_BYTES:
            say.caption(
                f"The checkpoint takes {_size(size)}, and this app makes downloads of at most {_size(MOST_BYTES)}. "
                "These lines make it on a machine of yours:"
            )
            st.code(baking_lines(selection(), scales), language="python", wrap_lines=True)
            return
        key = (*subject.run, "baked", work.digest(repr((subject.metric, sorted(scales.items(), key=str)))))
        st.button(
            f"Bake and check ({_size(size)})", key="ablation-bake", icon=":material/save:", on_click=_ask, args=(key,)
        )
        if st.session_state.get(_ASKED) == key:
            try:
                _shown(subject, scales, _tried(subject, scales, key), size)
            except (InputError, Unsupported) as error:
                say.problem(error)


def _scale_fields(subject: Subject) -> dict[Head, float]:
    """By head, its scale: one for all, or a field for each."""
    kept: dict[Any, float] = st.session_state.setdefault(_SCALES, {})
    heads = subject.heads
    st.session_state["ablation-bake-all"] = kept.get("all", 0.0)
    st.slider(
        "Scale of the heads in the set",
        0.0,
        1.0,
        step=0.05,
        key="ablation-bake-all",
        on_change=_keep,
        args=("all", "ablation-bake-all", None),
        help="0 takes a head out of the sum, 1 changes nothing.",
        width=420,
    )
    scales = dict.fromkeys(heads, float(kept.get("all", 0.0)))
    if len(heads) > _MOST_FIELDS:
        return scales
    with st.container(horizontal=True):
        for head in heads:
            key = f"ablation-bake-{str(head).replace(' ', '-')}"
            st.session_state[key] = scales[head] = float(kept.get(head, scales[head]))
            st.number_input(
                say.plain(str(head)),
                -10.0,
                10.0,
                step=0.05,
                key=key,
                on_change=_keep,
                args=(head, key, heads),
                width=120,
            )
    return scales


def _keep(name: Any, key: str, heads: tuple[Head, ...] | None) -> None:
    """Keep a field's value; the slider puts all heads back to its own."""
    act()
    kept = {} if heads is None else st.session_state.get(_SCALES, {})
    st.session_state[_SCALES] = kept | {name: float(st.session_state[key])}


def _ask(key: tuple[object, ...]) -> None:
    act()
    work.retry()
    st.session_state[_ASKED] = key


def _tried(subject: Subject, scales: Mapping[Head, float], key: tuple[object, ...]) -> Tried:
    def make(job: Job) -> Tried:
        model, edit = subject.model, ScaleHeads(scales)
        job.report("writing and checking", 0.0)
        copy = ablation.bake(model, scales)
        job.report("running both on this text", 0.7)
        wanted, got = _output(subject, model, (edit,)), _output(subject, copy.model, ())
        measured = None
        if not subject.metric.needs_clean:
            job.report("measuring the outcome", 0.8)
            runs = ((model, ()), (model, (edit,)), (copy.model, ()))
            measured = tuple(one.measure(subject.metric, **subject.given, edits=edits) for one, edits in runs)
        return Tried(copy.title, copy.gap, float((wanted - got).abs().max()), float(wanted.abs().max()), measured)

    return cast(Tried, finding.kept(subject, key, "Baking", make))


def _output(subject: Subject, model: Model, edits: tuple[Edit, ...]) -> torch.Tensor:
    """What a model puts out on the page's text: logits or states, float32."""
    given = subject.given
    source = model.encoded(given["text"], given.get("input_ids"), False)
    decoder = model.decoder_side(source, None, given.get("decoder_input_ids"), ())
    return main_output(model.forward(source, edits, None, decoder)).float()


def _shown(subject: Subject, scales: dict[Head, float], tried: Tried, size: int) -> None:
    with st.container(horizontal=True):
        for name, value in zip(("Clean", "Edited", "Baked"), tried.by_outcome or (), strict=False):
            st.metric(name, f"{value:.4f}", width="content")
        st.metric("Largest difference", f"{tried.here:.1e}", width="content")
    title = subject.metric.title
    say.caption(
        f"{tried.title[:1].upper() + tried.title[1:]}.",
        f"{title[:1].upper() + title[1:]}, of the model, of the model with this edit, and of the baked copy."
        if tried.by_outcome
        else "The page's outcome compares with a model's own clean run, so that of the copy would say nothing.",
        "Largest difference: between the numbers that the copy and the edited model put out on this text, which go up "
        f"to {tried.size:.3g}. On a short run of ours it is {tried.gap:.1e}; beyond 1e-6 of the largest output in "
        "float64, or 1e-3 of it in float32, baking is refused.",
    )
    with st.container(horizontal=True, vertical_alignment="center"):
        st.download_button(
            f"Download the checkpoint ({_size(size)}, zip)",
            partial(_made, subject.name, scales),
            file_name="baked.zip",
            mime="application/zip",
            on_click="ignore",
            key="ablation-bake-download",
            icon=":material/download:",
        )
        with st.popover("Copy as Python", icon=":material/code:"):
            st.code(baking_lines(selection(), scales), language="python", wrap_lines=True)
    say.caption("Made when you click, which takes as long as the check. Unpacked, from_pretrained reads the folder.")


def _made(name: str, scales: Mapping[Head, float]) -> bytes:
    """The checkpoint of a model that is held here; a click may come after it was let go."""
    model = stores().models.get(name)
    if model is None:
        raise InputError(f"{name} is no longer held here: open the page again, then download.")
    return checkpoint(model, scales)


def checkpoint(model: Model, scales: Mapping[Head, float]) -> bytes:
    """A zip of the folder that `ablation.bake` saves, with what was scaled in baked.json.

    raises   as `ablation.bake`
    """
    packed = io.BytesIO()
    with tempfile.TemporaryDirectory(prefix="attnviz-bake-") as place:
        folder = Path(place) / "baked"
        title = ablation.bake(model, scales, folder=folder).title
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
            for file in sorted(folder.rglob("*")):
                archive.write(file, file.relative_to(folder))
            facts = {"model": model.info.name, "revision": model.info.revision, "what": title}
            archive.writestr("baked.json", export.json(_table(scales), facts))
    return packed.getvalue()


def checkpoint_bytes(model: Model) -> int:
    """About how large the file is: every tensor once, tokenizer and configuration not counted."""
    held = {value.data_ptr(): value.nbytes for value in model.hf_model.state_dict().values()}
    return sum(held.values())


def _table(scales: Mapping[Head, float]) -> pd.DataFrame:
    rows = [(head.site or "", head.layer, head.head, scale) for head, scale in scales.items()]
    return pd.DataFrame(rows, columns=["site", "layer", "head", "scale"])


def _size(value: float) -> str:
    return f"{value / 1e9:.1f} GB" if value >= 1e9 else f"{max(0.1, value / 1e6):.1f} MB"
