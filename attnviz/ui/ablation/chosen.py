"""The set of heads that is taken out together: clicked in the grid, typed, or made by a preset."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import streamlit as st

from attnviz.ablation import Sweep
from attnviz.errors import InputError
from attnviz.figures.ablation import effects
from attnviz.ui import say
from attnviz.ui.ablation.subject import Subject
from attnviz.ui.ablation.trial import sets_like
from attnviz.ui.head_choice import read_heads
from attnviz.ui.session import act, select, selection

Pair = tuple[int, int]
MOST = 2_000  # heads of a set: an address has to hold them
_TOP, _LAYER, _SEED, _REFUSED = (f"attnviz_ablation_{name}" for name in ("top", "layer", "seed", "refused_set"))


def set_of_heads(subject: Subject, known: Sweep | None) -> None:
    """The set, to type in, and the presets that fill it."""
    st.markdown("**Heads that are taken out together**")
    typed = ", ".join(map(named, _pairs(subject)))
    st.session_state["ablation-set"] = typed
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.text_input(
            "Heads",
            key="ablation-set",
            label_visibility="collapsed",
            placeholder="None yet. Click heads in the grid, or type L5, L7H2, L10-12",
            on_change=_typed,
            args=(subject,),
            width=420,
        )
        with st.popover("Presets", icon=":material/select_all:"):
            _presets(subject, known)
        st.button("Clear", key="ablation-clear", on_click=lambda: select(heads=()), disabled=not subject.heads)
    if _REFUSED in st.session_state:
        say.problem(InputError(st.session_state.pop(_REFUSED)))


def _pairs(subject: Subject) -> list[Pair]:
    return [(head.layer, head.head) for head in subject.heads]


def named(pair: Pair) -> str:
    return f"L{pair[0]}H{pair[1]}"


def _typed(subject: Subject) -> None:
    act()
    try:
        found = read_heads(str(st.session_state["ablation-set"]), subject.model.info, subject.focus.head.site) or set()
    except InputError as error:
        st.session_state[_REFUSED] = str(error)
        return
    use(sorted(found))


def use(heads: Sequence[Pair]) -> None:
    """Make these the set."""
    if len(heads) > MOST:
        st.session_state[_REFUSED] = f"A set has at most {MOST:,} heads; these are {len(heads):,}."
        return
    select(heads=tuple(heads))


def _presets(subject: Subject, known: Sweep | None) -> None:
    every, mine = every_head(subject), _pairs(subject)
    layers = sorted({layer for layer, _ in every})
    with st.container(horizontal=True, vertical_alignment="bottom"):
        first = st.session_state.get(_LAYER, subject.focus.head.layer)
        st.session_state["ablation-layer"] = first if first in layers else layers[0]
        layer = st.number_input("Layer", layers[0], layers[-1], key="ablation-layer", on_change=_keep, width=120)
        whole = [pair for pair in every if pair[0] == layer]
        st.button("All of this layer", key="ablation-all", on_click=use, args=(whole,))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.session_state["ablation-top"] = min(st.session_state.get(_TOP, 5), len(every))
        count = st.number_input("How many", 1, len(every), key="ablation-top", on_change=_keep, width=120)
        cells = top(effects(known, subject.site), int(count)) if known is not None and known.n_reached else []
        strongest = [pair for cell in cells for pair in subject.heads_of(*cell)]
        st.button("Strongest", key="ablation-strongest", on_click=use, args=(strongest,), disabled=not strongest)
    rest = [pair for pair in every if pair not in set(mine)]
    st.button("Everything but these", key="ablation-rest", on_click=use, args=(rest,), disabled=not mine or not rest)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.session_state["ablation-seed"] = st.session_state.get(_SEED, 0)
        seed = st.number_input("Seed", 0, 9_999, key="ablation-seed", on_change=_keep, width=120)
        drawn, anywhere = _drawn(subject, int(seed))
        title = f"Random, {'any layers' if anywhere else 'same layers'}, same size"
        st.button(title, key="ablation-random", on_click=use, args=(drawn,), disabled=not drawn)
    if anywhere:
        say.caption("Random heads come from all layers: those of the set have too few others.")


def _keep() -> None:
    act()
    for key, widget in ((_TOP, "top"), (_LAYER, "layer"), (_SEED, "seed")):
        if f"ablation-{widget}" in st.session_state:
            st.session_state[key] = st.session_state[f"ablation-{widget}"]


def every_head(subject: Subject) -> list[Pair]:
    """All heads of the site, layer by layer."""
    info, site = subject.model.info, subject.site
    return [(at, i) for at, n in zip(info.layers[site], info.layer_heads[site], strict=True) for i in range(n)]


def top(values: npt.NDArray[np.float64], count: int) -> list[Pair]:
    """The cells, [layer, unit], of the largest |effect|, the largest first; those without an effect never."""
    sizes = np.nan_to_num(np.abs(values), nan=0.0)
    order = np.argsort(-sizes, axis=None, kind="stable")[:count]
    pairs = (np.unravel_index(int(i), sizes.shape) for i in order)
    return [(int(layer), int(head)) for layer, head in pairs if sizes[layer, head] > 0]


def _drawn(subject: Subject, seed: int) -> tuple[list[Pair], bool]:
    """(a random set in the place of the chosen one, whether it comes from all layers); none where there is none."""
    if not subject.heads:
        return [], False
    try:
        (heads,), anywhere = sets_like(subject, 1, seed)
    except InputError:
        return [], False
    return [(head.layer, head.head) for head in heads], anywhere


def later_than(subject: Subject) -> list[Pair]:
    """Heads of the same site that come after the first head of the set, and can notice that it is gone."""
    first = min(head.layer for head in subject.heads)
    taken = set(_pairs(subject))
    return [pair for pair in every_head(subject) if pair[0] > first and pair not in taken]


def selected_later() -> Pair | None:
    """The later head that was chosen, if one was."""
    chosen = selection()
    return None if chosen.later_layer is None or chosen.later_head is None else (chosen.later_layer, chosen.later_head)
