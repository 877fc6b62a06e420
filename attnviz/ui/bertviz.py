"""The pieces of the BertViz page: its head, model and neuron views, made on request and shown in a closed frame."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import cast

import streamlit as st

from attnviz import bertviz_views
from attnviz.bertviz_views import MOST_BYTES, MOST_DRAWN, Kind, Page
from attnviz.edits import Head
from attnviz.errors import AttnvizError
from attnviz.figures.labels import model_words, run_words
from attnviz.figures.palette import Theme
from attnviz.findings import EdgeAt
from attnviz.settings import settings
from attnviz.trace import Trace
from attnviz.ui import say, work
from attnviz.ui.components.framed import framed
from attnviz.ui.focus import Focus
from attnviz.ui.jobs import Job
from attnviz.ui.notebook.keeping import keep_this
from attnviz.ui.notebook.viewing import BERTVIZ_KIND
from attnviz.ui.pickers import segments
from attnviz.ui.python_lines import bertviz_lines
from attnviz.ui.session import selection, text_of
from attnviz.ui.theme import theme

TITLES = {"head": "Head view", "model": "Model view", "neuron": "Neuron view", "products": "Query-key products"}
_AROUND = 1  # layers before and after the selected one that the model view starts with
_PRESSED = "attnviz_bertviz_pressed"
_ASKED, _PAGES = "attnviz_bertviz_asked", "attnviz_bertviz_pages"
_KEPT = 3  # pages that stay with a session, as long as they are not more than one may be
_WORDS = {
    "head": "Lines from queries on the left to keys on the right, a colour a head; click a colour to switch a head, "
    "double-click to see it alone.",
    "model": "Every chosen layer and head as a small picture of its lines; click one to enlarge it.",
    "neuron": "The selected query's vector, every key's, and their products, element by element; point at a token on "
    "the left and press its plus sign.",
}


@dataclass(frozen=True)
class Wanted:
    """One page that can be asked for."""

    kind: Kind
    layers: tuple[int, ...]
    heads: tuple[int, ...] | None
    head: int
    site: str | None

    def estimate(self, trace: Trace) -> int:
        heads = None if self.kind == "neuron" else self.heads
        return bertviz_views.estimated_bytes(trace, self.kind, self.layers, heads=heads, site=self.site)

    def drawn(self, trace: Trace) -> int:
        """Elements of the largest picture in the page."""
        neuron = self.kind == "neuron"
        site = trace.info.site(self.site) if neuron else self.site
        heads = [self.head] if neuron else self.heads
        return bertviz_views.Wanted.checked(self.kind, trace, self.layers, heads, site).drawn()

    def named(self, trace: Trace) -> list[Head]:
        """The heads that were chosen by number, in the chosen layers; none where all are drawn."""
        heads = (self.head,) if self.kind == "neuron" else self.heads or ()
        site = self.site if len(trace.info.sites) > 1 else None
        return [Head(layer, head, site) for layer in self.layers for head in heads]

    def make(self, trace: Trace, theme: Theme) -> Page:
        if self.kind == "neuron":
            return bertviz_views.neuron_view(trace, layers=self.layers, head=self.head, site=self.site, theme=theme)
        view = {"head": bertviz_views.head_view, "model": bertviz_views.model_view}[self.kind]
        return view(trace, layers=self.layers, heads=self.heads, site=self.site, theme=theme)


def kind_picker() -> str:
    """Which view; kept while other pages are looked at."""
    current: str = st.session_state.get(BERTVIZ_KIND, "head")

    def use(kind: str) -> None:
        st.session_state[BERTVIZ_KIND] = kind

    segments("View", TITLES, current, key="bertviz-kind", use=use)
    return current


def what_counts(kind: str) -> None:
    """Which of the sidebar's choices change nothing in this view; to be called there."""
    if kind == "products":
        say.caption("Units and sinks change the text's tints here, not the products: these are of single tokens.")
    else:
        say.caption("Units, sinks and colours change nothing here: BertViz draws single tokens in colours of its own.")


def what_to_draw(trace: Trace, focus: Focus, kind: Kind) -> Wanted | None:
    """Layers and heads to put in; None while no layer is chosen."""
    site, around = focus.head.site, _AROUND if kind == "model" else 0
    have = list(trace.layers(site))
    start = [layer for layer in have if abs(layer - focus.head.layer) <= around]
    place = f"{selection().model}-{site}-{focus.head.layer}-{kind}"  # another layer selected: start from there
    left, right = st.columns(2)
    layers = left.multiselect("Layers", have, default=start, key=f"bertviz-layers-{place}", placeholder="None")
    heads: list[int] = []
    if kind != "neuron" and layers:
        fewest = min(trace.layer(layer, site).n_heads for layer in layers)
        heads = right.multiselect(
            "Heads", range(fewest), key=f"bertviz-heads-{place}-{fewest}", placeholder="All heads"
        )
    if not layers:
        say.caption("Choose at least one layer.")
        return None
    return Wanted(kind, tuple(sorted(layers)), tuple(sorted(heads)) or None, focus.head.head, site)


def made(trace: Trace, wanted: Wanted) -> str | None:
    """The page's HTML once it is asked for; before that its size and the button."""
    look = theme()
    asked = (*_run_key(trace), wanted)
    pages: dict[tuple[Hashable, ...], str] = st.session_state.setdefault(_PAGES, {})
    if (*asked, look) in pages:
        return pages[(*asked, look)]
    size, drawn = wanted.estimate(trace), wanted.drawn(trace)
    too_large = size > MOST_BYTES or drawn > MOST_DRAWN
    # Asked for is what is chosen now, not what stood above the button when it was drawn: both clicks may come at once.
    if st.session_state.pop(_PRESSED, False) and not too_large:
        st.session_state[_ASKED] = asked
    if st.session_state.get(_ASKED) == asked:

        def write(job: Job) -> str:
            job.report("collecting attention", 0.0)
            return wanted.make(trace, look).html

        html = cast(str, work.finished(("bertviz", *asked, look), "Writing the page", write))
        pages[(*asked, look)] = html
        while len(pages) > 1 and (len(pages) > _KEPT or sum(map(len, pages.values())) > MOST_BYTES):
            del pages[next(iter(pages))]
        return html
    _offer(wanted, size, drawn, too_large)
    return None


def _offer(wanted: Wanted, size: int, drawn: int, too_large: bool) -> None:
    """Say how large the page would be, and let it be made if that is not too large."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Make it",
            key="bertviz-make",
            type="primary",
            disabled=too_large,
            on_click=lambda: st.session_state.update({_PRESSED: True}),
        )
        st.markdown(f"About {megabytes(size)}")
    if too_large:
        say.problem(
            AttnvizError(
                f"This page would have about {megabytes(size)} and draw {drawn:,} elements at once; the most is "
                f"{megabytes(MOST_BYTES)} and {MOST_DRAWN:,}. Choose a shorter text or fewer layers"
                f"{' (in the model view, also fewer heads)' if wanted.kind == 'model' else ''}."
            )
        )


def megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{max(1, round(size / 1e3))} kB"


def show_page(trace: Trace, focus: Focus, wanted: Wanted, html: str) -> None:
    """The page in its frame, to be saved as well, and the lines of Python that write it."""
    title, chosen = TITLES[wanted.kind], selection()
    framed(html, key="bertviz", label=f"BertViz: {title}")
    lines = bertviz_lines(
        chosen,
        focus,
        text_of(chosen.text),
        text_of(chosen.other),
        kind=wanted.kind,
        layers=wanted.layers,
        heads=wanted.heads,
    )
    with st.container(horizontal=True):
        st.download_button(
            "HTML",
            html,
            file_name=f"bertviz-{wanted.kind}-view.html",
            mime="text/html",
            icon=":material/download:",
            key="bertviz-download",
            help="One file that needs no network",
            on_click="ignore",
        )
        with st.popover("Copy as Python", icon=":material/code:"):
            say.caption("These lines write this view as a file.")
            st.code(lines, language="python", wrap_lines=True)
        keep_this(
            "BertViz",
            heads=wanted.named(trace) or focus.heads,
            edges=[EdgeAt(query=focus.query, key=focus.key)],
            lines=lines,
            also_seen=[trace.text] if trace.text != text_of(chosen.text) else (),
            caption="BertViz's drawing is a page of its own and is not kept: it is made again there, of the layers "
            "and heads that you choose. The lines of Python write this one.",
        )
    layers = ", ".join(map(str, wanted.layers))
    say.caption(
        f"{title} of layer{'s' * (len(wanted.layers) > 1)} {layers}, {run_words(trace)} of "
        f"{model_words(trace.info)}; {megabytes(len(html.encode()))}.",
        _WORDS[wanted.kind],
        "This is BertViz's own drawing (Jesse Vig, Apache-2.0), fed with this trace and shown in a frame that can "
        "fetch nothing. Weights are rounded to four decimals; it shows tokens as they are, whatever is chosen here "
        "for units and sinks.",
        *[_neuron_words(trace)] * (wanted.kind == "neuron"),
        "It shows where heads look, not what that does to the prediction.",
    )


def _neuron_words(trace: Trace) -> str:
    return (
        "BertViz's own reads only the model classes that it brings along; these are the vectors that "
        f"{trace.info.name} used, after its positions. Products are divided by the root of their length; see Query-key "
        "products for the model's own scores."
    )


def _run_key(trace: Trace) -> tuple[Hashable, ...]:
    """What tells this run from others."""
    chosen = selection()
    texts = (work.digest(trace.text), work.digest(trace.source_text))
    return (chosen.model or settings().default_model, *texts, chosen.text, chosen.chat)
