"""Graph: layers by tokens, and the edges that carry the explanation down from the target."""

from __future__ import annotations

import plotly.graph_objects as go
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from attnviz.errors import InputError, Unsupported
from attnviz.export import about
from attnviz.figures.flow import MOST_SANKEY_EDGES, held_words, sankey
from attnviz.figures.labels import model_words, run_words, sink_words
from attnviz.figures.palette import Theme
from attnviz.flow.graph import Graph
from attnviz.flow.methods import METHODS
from attnviz.ui import say
from attnviz.ui.components.flowgraph import flow_graph
from attnviz.ui.export import export_bar
from attnviz.ui.feedback import feedback_row
from attnviz.ui.flow import finding, keeping
from attnviz.ui.flow.lines import graph_lines
from attnviz.ui.flow.picked import edge_view
from attnviz.ui.flow.showing import show_figure
from attnviz.ui.flow.target import Subject, source_levels, state_words
from attnviz.ui.focus import Focus
from attnviz.ui.notebook.offering_flow import keep_flow
from attnviz.ui.pickers import dropdown, held, segments, share_slider
from attnviz.ui.selection import GRAPHS
from attnviz.ui.session import select, selection, text_of
from attnviz.ui.theme import theme
from attnviz.view import Sinks

_AS, _LEAST = "attnviz_flow_drawn_as", "attnviz_flow_routes_threshold"
_CANVAS, _SANKEY = "Graph", "Sankey"


def graph_view(subject: Subject, focus: Focus) -> None:
    """The graph, what it is and is not, and the selected edge's heads."""
    options, corner = _controls(subject)
    if keeping.too_long(subject.trace):
        say.caption(keeping.too_long(subject.trace), "The methods aspect still has rollout.")
        return
    try:
        drawn = finding.graph_for(subject, _method(subject), selection().share, options)
    except (InputError, Unsupported) as error:
        say.problem(error)
        edge_view(subject, focus)
        return
    graph = drawn.graph
    as_sankey = _drawn_as(graph, corner) == _SANKEY
    if as_sankey:
        show_figure(sankey(graph, theme=theme(), title=_title(subject)), "flow-sankey", titled=True)
    else:
        _canvas(subject, focus, graph)
    _caption(subject, focus, drawn, options, as_sankey=as_sankey)
    feedback_row(text_of(selection().text), model=subject.name, kind="explanation", key="flow-feedback")
    edge_view(subject, focus, drawn=_is_drawn(subject, focus, graph))


def _controls(subject: Subject) -> tuple[finding.Options, DeltaGenerator]:
    """The widgets above the graph: the options of its method, and the place where it says how it is drawn."""
    chosen = selection()
    first, second, third, fourth = st.columns([3, 3, 3, 2], gap="medium")
    method = _method(subject)
    with first:
        dropdown(
            "Edges by",
            {name: METHODS[name].title for name in GRAPHS},
            method,
            key="flow-method",
            use=lambda name: select(method=name),
            help=METHODS[method].words,
        )
    levels = finding.levels_of(subject.trace)
    last = len(levels) - 1
    with second:
        dropdown(
            "State to explain",
            range(1, len(levels)),
            last if chosen.level is None else chosen.level,
            key="flow-level",
            use=lambda level: _to_level(level, last),
            words=lambda level: levels[level] + (" (the last)" if level == last else ""),
        )
    with third:
        return _share_and_options(subject), fourth


def _share_and_options(subject: Subject) -> finding.Options:
    share_slider(
        "Share of each layer's mass",
        key="flow-share",
        help="In each layer, the fewest edges that hold this share of its mass are drawn, as far as drawn ones join "
        "them to the target. So all together may hold more than this, or less: how much stands above the graph.",
    )
    if _method(subject) != "routes":
        return {}
    with st.popover("Options", icon=":material/tune:"):
        least = st.slider(
            "Least importance",
            0.0,
            0.1,
            step=0.005,
            format="%.3f",
            key="flow-threshold",
            on_change=held(_LEAST, 0.0, key="flow-threshold"),
            help="Edges that bring a state less than this are not followed, as in the paper, where it is 0.01 or so. "
            "At 0 all are.",
        )
    return {"threshold": least} if least > 0 else {}


def _method(subject: Subject) -> str:
    return finding.method_of(subject, selection().method)


def _to_level(level: int, top: int) -> None:
    select(level=None if level >= top else level)


def _drawn_as(graph: Graph, place: DeltaGenerator) -> str:
    """The canvas, or where the edges are few a Sankey diagram instead, as was chosen last."""
    if not 0 < len(graph.edges) <= MOST_SANKEY_EDGES:
        return _CANVAS
    current: str = st.session_state.get(_AS, _CANVAS)

    def use(name: str | None) -> None:
        st.session_state[_AS] = name or _CANVAS

    with place:
        segments("Drawn as", (_CANVAS, _SANKEY), current, key="flow-as", use=use, free=True)
    return current


def _canvas(subject: Subject, focus: Focus, graph: Graph) -> None:
    units, source = subject.units, subject.source_units
    site = subject.trace.info.site(focus.head.site)
    sides = {"encoder": (source or units, source or units), "cross": (units, source or units)}
    queries, keys = sides.get(site, (units, units))

    def on_edge(layer: int, site: str, query: int, key: int) -> None:
        queries, keys = sides.get(site, (units, units))
        named = {"site": site} if len(subject.trace.info.sites) > 1 else {}
        select(**named, layer=layer, query=queries.edges[query + 1] - 1, key=keys.edges[key], queries=(), keys=())

    def on_node(level: int, column: int) -> None:
        if column < graph.n_source:
            if source is not None and level > 0:
                select(goal=source.edges[column + 1] - 1, level=level, answer=None, foil=None)
            return
        goal = units.edges[column - graph.n_source + 1] - 1
        # A token itself, below all blocks, is taken for what is predicted there.
        inner = source_levels(subject.trace) < level < len(graph.levels) - 1
        select(goal=goal, level=level if inner else None, answer=None, foil=None)

    flow_graph(
        graph,
        key="flow-graph",
        label="Layers upwards and tokens across, the target on top, and the edges that carry its explanation. Pick a "
        "node to explain it, an edge to see its heads.",
        title=_title(subject),
        picked=(focus.head.layer, site, queries.at(focus.query), keys.at(focus.key)),
        file_name=f"flow-{_method(subject)}",
        on_edge=on_edge,
        on_node=on_node,
    )


def _is_drawn(subject: Subject, focus: Focus, graph: Graph) -> bool:
    """Whether the selected edge is one of the graph's."""
    site, units, source = subject.trace.info.site(focus.head.site), subject.units, subject.source_units
    query = units.at(focus.query) + graph.n_source if site != "encoder" or source is None else source.at(focus.query)
    key = units.at(focus.key) + graph.n_source if site == "decoder" or source is None else source.at(focus.key)
    edges = graph.edges
    of_layer = (edges["layer"] == focus.head.layer) & (edges["site"] == site) & (edges["kind"] == "attention")
    return bool((of_layer & (edges["end"] == query) & (edges["start"] == key)).any())


def _title(subject: Subject) -> str:
    level = finding.levels_of(subject.trace)[-1 if subject.state[1] is None else subject.state[1]]
    return f"{METHODS[_method(subject)].title} into {state_words(subject)}, {level}, {subject.trace.info.name}"


def _hybrid_words(subject: Subject) -> str:
    """That some layers of the model have no attention; "" where all have it."""
    info = subject.trace.info
    without = {site: info.layers_of(site) - len(info.layers[site]) for site in info.sites}
    if not any(without.values()):
        return ""
    count, every = sum(without.values()), sum(info.layers_of(site) for site in info.sites)
    return (
        f"{count} of the {every} layers have no attention. They move states between tokens too, by means of their "
        "own, and are not drawn."
    )


def _caption(
    subject: Subject, focus: Focus, drawn: finding.Drawn, options: finding.Options, *, as_sankey: bool
) -> None:
    graph, title = drawn.graph, _title(subject)
    chosen, trace, look = selection(), subject.trace, theme()
    method, unit = METHODS[_method(subject)], subject.view.unit
    say.caption(
        f"{held_words(graph).capitalize()}, of {run_words(trace)} of {model_words(trace.info)}.",
        f"{method.title}: {method.words} ({method.source})",
        sink_words(subject.view, trace, None, None) if method.reads == "attention" else "",
        f"By {unit}: the masses of a {unit}'s tokens are added up." if unit != "token" else "",
        "An edge's mass is the share of the target's explanation that passes it, the whole being 1. Drawn are the "
        f"fewest that hold {chosen.share:.0%} of each layer's mass, as far as drawn ones join them to the target: a "
        "missing edge is weak, not absent.",
        f"Edges of an importance below {options['threshold']:g} are not followed." if "threshold" in options else "",
        _hybrid_words(subject),
        f"Nothing can be picked in the diagram: pick edges and nodes in the {_CANVAS.lower()}." if as_sankey else "",
        "It shows where states come from, whatever is predicted: not which token decides the answer. For that, hold "
        "the methods against the yardsticks.",
    )

    def figure(scheme: Theme = look) -> go.Figure:
        return sankey(drawn.few(), theme=scheme, title=title)

    python = graph_lines(chosen, subject, options, few=len(graph.edges) > MOST_SANKEY_EDGES)
    with st.container(horizontal=True):
        export_bar(
            "flow graph",
            figure,
            lambda: graph.edges,
            python,
            rows=len(graph.edges),
            about=about(trace, view=subject.view)
            | {"method": _method(subject), "share": chosen.share, "held": graph.held}
            | dict(options),
            key="flow-graph",
            caption="Where a method lets mass run, not what the model needs.",
            made="the same graph" if as_sankey else "the same graph, drawn as a Sankey diagram,",
        )
        names = (_method(subject),)
        keep_flow(
            subject,
            focus,
            lambda: finding.found_for(subject, names, Sinks()),
            names=names,
            figure=(lambda: figure("light")) if len(graph.edges) else None,
            lines=python,
            otherwise=_otherwise(subject, options),
        )


def _otherwise(subject: Subject, options: finding.Options) -> str:
    """Why the graph is of something that a finding does not measure; "" where it is not."""
    position, level = subject.state
    if level is not None or (position is not None and not subject.trace.info.has_vocabulary):
        return "the state of one token is explained, and a finding measures where an outcome comes from."
    if options:
        return "weak edges are not followed here, and a finding leaves none out."
    return "sinks are taken out here, and a finding leaves them in." if subject.view.sinks.active else ""
