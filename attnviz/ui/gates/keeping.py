"""Gates to keep: as a file, as TensorBoard scalars, in a checkpoint's weights; and gates of a file, in place of learned
ones. The server writes into temporary folders alone."""

from __future__ import annotations

import io
import tempfile
import zipfile
from functools import partial
from pathlib import Path
from typing import cast

import streamlit as st

from attnviz.errors import AttnvizError, InputError, Unsupported
from attnviz.gates import Gates
from attnviz.ui import say, work
from attnviz.ui.ablation.baking import MOST_BYTES, checkpoint, checkpoint_bytes
from attnviz.ui.gates.asking import Asked
from attnviz.ui.gates.course import change, complain, packed, read_gates, unpacked
from attnviz.ui.gates.lines import use_lines
from attnviz.ui.gates.results import digest_of
from attnviz.ui.jobs import Job
from attnviz.ui.kept import kept
from attnviz.ui.session import act, selection, stores, text_of
from attnviz.ui.uploads import check_upload

_FILE, _ASKED = "gates-file", "attnviz_gates_bake_asked"


def load_field() -> None:
    """A file of gates that takes the place of what is learned here."""
    with st.popover("Load gates", icon=":material/folder_open:"):
        st.file_uploader("A file that “Save the gates” made", type="safetensors", key=_FILE, on_change=_load)
        say.caption(
            "The gates of the file are shown in place of what is learned here. They fit the model that they were "
            "learned on, and are refused by one with other heads."
        )


def _load() -> None:
    file = st.session_state.get(_FILE)
    if file is None:
        return
    try:
        check_upload(file)
        data = file.getvalue()
        read_gates(data)
    except InputError as error:
        complain(str(error))
        return
    change(loaded=packed(data))


def loaded(ask: Asked) -> Gates | None:
    """The gates of the file, if they fit the model; says which they are, and offers to put them away."""
    try:
        found = unpacked(ask.course.loaded)
        remark = found.check(ask.model)
    except AttnvizError as error:
        say.problem(error)
        return None
    finally:
        st.button(
            "Put the file away", icon=":material/close:", key="gates-unload", on_click=change, kwargs={"loaded": ""}
        )
    st.info(say.plain(f"From a file: {found.title}."), icon=":material/folder_open:")
    if remark:
        st.warning(say.plain(remark), icon=":material/warning:")
    return found


def keeping(ask: Asked, found: Gates) -> None:
    """Downloads: the gates, their curve for TensorBoard, a baked checkpoint, and lines of Python that use them."""
    st.markdown("**Keep them**")
    with st.container(horizontal=True, vertical_alignment="center"):
        st.download_button(
            "Save the gates",
            partial(saved, found),
            file_name="gates.safetensors",
            mime="application/octet-stream",
            on_click="ignore",
            key="gates-save",
            icon=":material/save:",
        )
        st.download_button(
            "Curve for TensorBoard (zip)",
            partial(tensorboard, found),
            file_name="gates-tensorboard.zip",
            mime="application/zip",
            on_click="ignore",
            key="gates-tensorboard",
            icon=":material/monitoring:",
        )
        with st.popover("Use them in Python", icon=":material/code:"):
            st.code(use_lines(selection(), ask, found, text_of(selection().text)), language="python", wrap_lines=True)
    _bake(ask, found)


def saved(found: Gates) -> bytes:
    """The file that `Gates.load` and “Load gates” read."""
    with tempfile.TemporaryDirectory(prefix="attnviz-gates-") as folder:
        return found.save(Path(folder) / "gates.safetensors").read_bytes()


def tensorboard(found: Gates) -> bytes:
    """A zip of a folder for `tensorboard --logdir`."""
    packed_ = io.BytesIO()
    with tempfile.TemporaryDirectory(prefix="attnviz-gates-") as place:
        folder = found.to_tensorboard(Path(place) / "gates")
        with zipfile.ZipFile(packed_, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(folder.rglob("*")):
                archive.write(file, file.relative_to(place))
    return packed_.getvalue()


def _bake(ask: Asked, found: Gates) -> None:
    """The gates in a checkpoint's weights: checked first, then made when somebody downloads it."""
    size = checkpoint_bytes(ask.model)
    scales = found.changed(1.0)
    if not scales:
        say.caption("There is nothing to bake: all gates are 1.")
        return
    if size > MOST_BYTES:
        say.caption(
            f"A checkpoint with the gates in its weights takes {size / 1e9:.1f} GB, and this app makes none above "
            f"{MOST_BYTES / 1e9:.1f} GB. The lines under “Use them in Python” make it on a machine of yours."
        )
        return
    key = (ask.name, "gates-baked", digest_of(found))
    st.button(
        f"Bake into a checkpoint ({size / 1e6:,.0f} MB)",
        key="gates-bake",
        icon=":material/inventory_2:",
        on_click=_ask,
        args=(key,),
        help="Writes the gates into a copy of the weights and checks that it says what the gated model says.",
    )
    if st.session_state.get(_ASKED) != key:
        return

    def make(job: Job) -> float:
        job.report("writing and checking", 0.0)
        return found.bake(ask.model).gap

    try:
        gap = cast(float, kept(ask, key, "Baking", make))
    except (InputError, Unsupported) as error:
        say.problem(error)
        return
    st.download_button(
        "Download the checkpoint (zip)",
        partial(_checkpoint, ask.name, found),
        file_name="gates-baked.zip",
        mime="application/zip",
        on_click="ignore",
        key="gates-bake-download",
        icon=":material/download:",
    )
    say.caption(
        f"Checked: on a short run the copy's numbers differ from the gated model's by {gap:.1e} at most. Made when you "
        "click; from_pretrained reads the folder, and no edit is needed any more."
    )


def _ask(key: tuple[object, ...]) -> None:
    act()
    work.retry()
    st.session_state[_ASKED] = key


def _checkpoint(name: str, found: Gates) -> bytes:
    """The zip; a click may come after the model was let go."""
    model = stores().models.get(name)
    if model is None:
        raise InputError(f"{name} is no longer held here: open the page again, then download.")
    return checkpoint(model, found.changed(1.0))
