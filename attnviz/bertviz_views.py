"""BertViz's three views (Vig 2019) of a trace, each as one page that needs no network.

1. BertViz's Python writes its frame and parameters for a text of one token; for the neuron view, whose Python knows
   only BertViz's own model classes, they are written here.
2. The trace's tokens and numbers take that token's place. They stand in a JSON block, all ASCII and with <, > and &
   escaped; BertViz's scripts write tokens as text, never as markup.
3. BertViz's JavaScript, D3 and jQuery come from the installed packages and stand in the page. A few lines take
   RequireJS's place, and a Content-Security-Policy forbids every request.

Numbers are rounded to four decimals (as float64, or they would print their binary tails), zeros written "0": a page is
about a third of what BertViz would write, which besides writes everything twice.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from itertools import product
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from attnviz.errors import AttnvizError, InputError, Unsupported
from attnviz.figures.labels import model_words, run_words
from attnviz.figures.palette import Theme
from attnviz.recorded import Recorded
from attnviz.trace import Trace

Kind = Literal["head", "model", "neuron"]

MOST_BYTES = 64 * 2**20
MOST_DRAWN = 500_000  # SVG elements; Chromium draws about 100,000 a second, and each stays in its memory
_ASSETS = Path(__file__).resolve().parents[1] / "assets" / "bertviz"
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'"
_SAMPLED_ROWS = 4
_NEURON_FRAME = """<div id="{root}" style="padding: 8px">
<span class="dropdown-label">Layer: </span><select id="layer"></select>
<span class="dropdown-label">Head: </span><select id="att_head"></select>
<div id="vis"></div>
</div>"""
_NEURON_NOTE = (
    "Colours are the signs and sizes of the vectors' elements. The column q · k is divided by √d; scaling of another "
    "kind, soft-capping, biases, sinks and masks are in the attention and not in the products."
)


@dataclass(frozen=True)
class Page:
    """A whole HTML document, which may be shown in a frame or saved as a file."""

    html: str


def head_view(
    trace: Trace,
    *,
    layers: Sequence[int],
    heads: Sequence[int] | None = None,
    site: str | None = None,
    theme: Theme = "light",
) -> Page:
    """BertViz's head view: lines from queries (left) to keys (right), a colour a head, one layer at a time.

    layers   the layers to choose from
    heads    the heads switched on at first, None for all; a click on a colour switches
    site     for encoder-decoders; None gives all their sites to choose from
    raises   HeadError for what the trace does not have; InputError for no layers, or for a page too large
    """
    return _page(Wanted.checked("head", trace, layers, heads, site), theme)


def model_view(
    trace: Trace,
    *,
    layers: Sequence[int],
    heads: Sequence[int] | None = None,
    site: str | None = None,
    theme: Theme = "light",
) -> Page:
    """BertViz's model view: every head of the layers as a thumbnail, a click enlarges one.

    heads    the heads to draw, None for all; otherwise as `head_view`
    """
    return _page(Wanted.checked("model", trace, layers, heads, site), theme)


def neuron_view(
    trace: Trace, *, layers: Sequence[int], head: int = 0, site: str | None = None, theme: Theme = "light"
) -> Page:
    """BertViz's neuron view: a query's vector against every key's, element by element.

    The vectors are the trace's, after rotary positions, a shared key head repeated for each of its query heads. So it
    works for every exact model, where BertViz's own needs one of its four model classes. The picture divides q · k by
    √d; a model's other scaling, soft-capping, position bias, sinks and masks (sliding windows too) are in the
    attention and not in the products: `attnviz.products` has the model's own scores.

    head     the head shown at first
    site     one site; None is the model's first
    raises   Unsupported for view-only models; otherwise as `head_view`
    """
    return _page(Wanted.checked("neuron", trace, layers, [head], trace.info.site(site)), theme)


def estimated_bytes(
    trace: Trace, kind: Kind, layers: Sequence[int], *, heads: Sequence[int] | None = None, site: str | None = None
) -> int:
    """About how long the page would be, in bytes, from a few rows of each layer; raises as the views do."""
    site = trace.info.site(site) if kind == "neuron" else site
    return _estimate(Wanted.checked(kind, trace, layers, heads, site))


@dataclass(frozen=True)
class Wanted:
    """What a page is to show, checked against the trace. `heads` None: all; `width` is the neuron view's d_head."""

    kind: Kind
    trace: Trace
    sites: tuple[str, ...]
    layers: tuple[int, ...]
    heads: tuple[int, ...] | None
    n_heads: int
    width: int

    @classmethod
    def checked(
        cls, kind: Kind, trace: Trace, layers: Sequence[int], heads: Sequence[int] | None, site: str | None
    ) -> Wanted:
        if kind not in get_args(Kind):
            raise InputError(f"BertViz has the views {', '.join(get_args(Kind))}; got {kind!r}.")
        sites = trace.info.sites if site is None else (trace.info.site(site),)
        layers = tuple(dict.fromkeys(layers))
        heads = None if heads is None else tuple(dict.fromkeys(heads))
        if not layers or heads == ():
            raise InputError("A BertViz view needs at least one layer and one head; got none. Name some.")
        places = [(layer, name) for name in sites for layer in layers]
        found = [trace.layer(layer, name) for layer, name in places]
        if kind == "neuron" and not all(isinstance(attention, Recorded) for attention in found):
            raise Unsupported(
                f"The neuron view needs queries and keys, and {trace.info.name} gives its patterns only. Take the head "
                "or the model view, or a model whose status is exact."
            )
        for (layer, name), head in product(places, heads or ()):
            trace.info.check_head(layer, head, name)
        shapes = {(x.n_heads, x.query.shape[3] if kind == "neuron" and isinstance(x, Recorded) else 0) for x in found}
        if len(shapes) > 1:
            counts = " and ".join(f"{n} heads" + (f" of {width}" if width else "") for n, width in sorted(shapes))
            raise InputError(f"BertViz shows only layers of one shape together; these have {counts}. Take fewer.")
        return cls(kind, trace, sites, layers, heads, *shapes.pop())

    @property
    def only(self) -> list[int]:
        """The heads whose numbers are in the page."""
        return list(self.heads) if self.kind == "model" and self.heads else list(range(self.n_heads))

    def drawn(self) -> int:
        """SVG elements of the largest picture that the page can be asked for."""
        sizes = [tuple(map(len, self.trace.axes(site))) for site in self.sites]
        if self.kind == "neuron":
            return max(7 * q * k + (q + 2 * k) * self.width for q, k in sizes)
        return max(q * k for q, k in sizes) * len(self.only) * (len(self.layers) if self.kind == "model" else 1)

    def arrays(self, layer: int, site: str, rows: slice = slice(None)) -> dict[str, torch.Tensor]:
        """By BertViz's names: attn [head, query, key], and for the neuron view queries, keys [head, token, d_head]."""
        attention = self.trace.layer(layer, site)
        arrays = {"attn": attention.pattern(queries=rows)[0, self.only]}
        if self.kind == "neuron" and isinstance(attention, Recorded):
            arrays["queries"] = attention.query[0, :, rows]
            arrays["keys"] = attention.key[0, :, rows].repeat_interleave(attention.group, 0)
        return arrays


def _page(wanted: Wanted, theme: Theme) -> Page:
    if theme not in get_args(Theme):
        raise InputError(f"A theme is light or dark; got {theme!r}.")
    drawn, size = wanted.drawn(), _estimate(wanted)
    if drawn > MOST_DRAWN or size > MOST_BYTES:
        raise InputError(
            f"This {wanted.kind} view would be a page of about {size / 2**20:.0f} MB drawing {drawn:,} elements at "
            f"once; the most is {MOST_BYTES // 2**20} MB and {MOST_DRAWN:,}. Take a shorter text or fewer layers"
            " (in the model view, also fewer heads)."
        )

    def numbers(site: str) -> dict[str, str]:
        layers = [{name: _numbers(x) for name, x in wanted.arrays(n, site).items()} for n in wanted.layers]
        return {name: f"[{','.join(layer[name] for layer in layers)}]" for name in layers[0]}

    return Page(_document(wanted, theme, numbers))


def _estimate(wanted: Wanted) -> int:
    """The page without its numbers, and the numbers as a few rows of every layer let expect."""
    length = len(_document(wanted, "light", lambda site: {}).encode())
    for site in wanted.sites:
        sizes = dict(zip(("queries", "keys"), map(len, wanted.trace.axes(site)), strict=True))
        n_rows = min(sizes.values())
        places = {(2 * i + 1) * n_rows // (2 * _SAMPLED_ROWS) for i in range(_SAMPLED_ROWS)}
        for layer in wanted.layers:
            for place in places:
                for name, values in wanted.arrays(layer, site, slice(place, place + 1)).items():
                    rows = sizes["keys" if name == "keys" else "queries"]
                    length += len(_numbers(values)) * rows // len(places)
    return length


def _document(wanted: Wanted, theme: Theme, numbers: Callable[[str], Mapping[str, str]]) -> str:
    """The page; `numbers` gives a site's encoded arrays by BertViz's names."""
    frame, params = _neuron_frame(wanted, theme) if wanted.kind == "neuron" else _bertviz_frame(wanted, theme)
    entries = []
    for site in wanted.sites:
        queries, keys = wanted.trace.axes(site)
        entry = {"name": site, "left_text": [t.text for t in queries], "right_text": [t.text for t in keys]}
        entries.append(_object(entry, numbers(site)))
    attention = _object({}, {"all": entries[0]}) if wanted.kind == "neuron" else f"[{','.join(entries)}]"
    longest = max(len(tokens) for site in wanted.sites for tokens in wanted.trace.axes(site))
    scripts = [
        _installed("mpld3", "mpld3/js/d3.v5.min.js"),
        _installed("sphinxcontrib-jquery", "sphinxcontrib/jquery/jquery.js"),
        (_ASSETS / "require.js").read_text("utf-8"),
        # The addresses of a CDN are emptied, so that a search of the page finds nothing to fetch.
        re.sub(r"'https?://[^']*'", "''", _installed("bertviz", f"bertviz/{wanted.kind}_view.js")).replace(
            "PYTHON_PARAMS", "window.bertviz_params"
        ),
    ]
    return "\n".join(
        [
            "<!doctype html>",
            f'<html lang="en" data-theme="{theme}" style="--least-height: {26 * longest + 100}px">',
            f'<head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            f"<title>BertViz {wanted.kind} view</title>",
            f"<style>{(_ASSETS / 'views.css').read_text('utf-8')}</style></head>",
            f'<body class="{wanted.kind}"><p class="caption">{html.escape(_caption(wanted))}</p>',
            frame,
            f'<script type="application/json" id="bertviz-params">{_object(params, {"attention": attention})}</script>',
            *(f"<script>{_inline(script)}</script>" for script in scripts),
            "</body></html>",
        ]
    )


def _bertviz_frame(wanted: Wanted, theme: Theme) -> tuple[str, dict[str, Any]]:
    """BertViz's own markup and parameters for a text of one token, without its one fetched script."""
    import bertviz  # type: ignore[import-untyped]  # here, since it brings IPython along

    attention = [torch.zeros(1, wanted.n_heads, 1, 1)] * (max(wanted.layers) + 1)
    options: dict[str, Any] = {"include_layers": list(wanted.layers), "prettify_tokens": False, "html_action": "return"}
    if len(wanted.sites) == 1:
        options |= {"attention": attention, "tokens": ["-"]}
    else:
        options |= {f"{site}_attention": attention for site in wanted.sites}
        options |= {"encoder_tokens": ["-"], "decoder_tokens": ["-"]}
    heads = None if wanted.heads is None else list(wanted.heads)
    if wanted.kind == "model":
        written = bertviz.model_view(include_heads=heads, display_mode=theme, **options).data
    else:
        written = bertviz.head_view(heads=heads, **options).data
    fetched_and_markup, _, script = written.partition('<script type="text/javascript">')
    start = "const params = "
    params, _ = json.JSONDecoder().raw_decode(script, script.index(start) + len(start))
    return fetched_and_markup.partition("</script>")[2].strip(), {k: v for k, v in params.items() if k != "attention"}


def _neuron_frame(wanted: Wanted, theme: Theme) -> tuple[str, dict[str, Any]]:
    """What BertViz's neuron script looks for in its page."""
    root = "bertviz-neuron"
    queries, keys = wanted.trace.axes(wanted.sites[0])
    return _NEURON_FRAME.format(root=root), {
        "default_filter": "all",
        "root_div_id": root,
        "bidirectional": wanted.sites[0] != "decoder" or len(queries) != len(keys),
        "display_mode": theme,
        "layer": 0,
        "head": (wanted.heads or (0,))[0],
        "include_layers": list(wanted.layers),
    }


def _caption(wanted: Wanted) -> str:
    info = wanted.trace.info
    where = f" · {', '.join(wanted.sites)} attention" if len(info.sites) > 1 else ""
    which = f"BertViz's {wanted.kind} view · {model_words(info)}{where} · {run_words(wanted.trace)}."
    which += " Queries left, keys right; weights rounded to four decimals. Where heads look is not what they do."
    return f"{which} {_NEURON_NOTE}" if wanted.kind == "neuron" else which


def _numbers(values: torch.Tensor) -> str:
    """Nested JSON lists of the values at four decimals; NaN, which JSON has not, is 0."""
    rounded = values.cpu().double().nan_to_num(0.0).round(decimals=4)
    text = json.dumps(rounded.tolist(), separators=(",", ":"), allow_nan=False)
    return text.replace(".0,", ",").replace(".0]", "]")


def _object(plain: Mapping[str, Any], encoded: Mapping[str, str]) -> str:
    """A JSON object of plain values and of values that are JSON already, safe inside a script element.

    All that is not ASCII is written as an escape, U+2028 and lone surrogates included; the names of `encoded` are ours.
    """
    members = [f'"{name}":{json.dumps(value, separators=(",", ":"))}' for name, value in plain.items()]
    for mark in "<>&":
        members = [member.replace(mark, f"\\u{ord(mark):04x}") for member in members]
    return "{" + ",".join([*members, *(f'"{name}":{text}' for name, text in encoded.items())]) + "}"


def _inline(script: str) -> str:
    """A script that cannot end its element early: in JavaScript, the escapes change no string and no expression."""
    return script.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _installed(package: str, path: str) -> str:
    """A text file of an installed package, which is not imported for it: two of them would bring much along."""
    try:
        return Path(str(metadata.distribution(package).locate_file(path))).read_text("utf-8")
    except (metadata.PackageNotFoundError, OSError) as error:
        words = f"BertViz's views need {path} of the package {package}: missing. Install the requirements again."
        raise AttnvizError(words) from error
