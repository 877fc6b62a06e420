"""Mean effects over many texts as a Plotly figure, with those marked that are not zero by chance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
from scipy import stats

from attnviz.ablation import Averaged
from attnviz.corpus import benjamini_hochberg
from attnviz.errors import InputError
from attnviz.figures.ablation import named, of_layers
from attnviz.figures.drawing import INK, NO_VALUE, framed
from attnviz.figures.palette import Theme, diverging_colorscale

LEAST_TEXTS = 3  # two that agree by chance look sure
_TICKS, _HEIGHT = 16, 480
Doubles = npt.NDArray[np.float64]


def q_values(averaged: Averaged) -> dict[str, Doubles]:
    """By site, [layer, head]: how likely such a mean is where the true one is zero, corrected for all that was tested.

    A t-test over texts for each head, then Benjamini & Hochberg (1995) over the heads of all sites. NaN where there is
    no head, and everywhere for fewer than three texts.
    """
    effects = np.concatenate([values.reshape(len(values), -1) for values in averaged.by_site.values()], axis=1)
    n = len(effects)
    if n < LEAST_TEXTS:
        return {site: np.full(values.shape[1:], np.nan) for site, values in averaged.by_site.items()}
    mean = effects.mean(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.abs(mean) / (effects.std(0, ddof=1) / np.sqrt(n))
    p = np.where(mean == 0, 1.0, 2 * stats.t.sf(t, n - 1))  # 0 / 0: a head that never does anything
    sizes = np.cumsum([values[0].size for values in averaged.by_site.values()])[:-1]
    parts = np.split(benjamini_hochberg(p), sizes)
    pairs = zip(averaged.by_site.items(), parts, strict=True)
    return {site: part.reshape(values.shape[1:]) for (site, values), part in pairs}


def mean_map(
    averaged: Averaged,
    *,
    site: str | None = None,
    rate: float = 0.05,
    theme: Theme = "light",
    title: str = "",
) -> go.Figure:
    """Every head's mean effect over texts, layers down and heads across; dots on those with q < `rate` (`q_values`).

    averaged   of `ablation.over_texts`
    site       None: its own
    raises     InputError for a site that it does not have
    """
    site, units = site or averaged.site, averaged.units
    if site not in averaged.by_site:
        raise InputError(f"These effects are at {', '.join(averaged.by_site)}; got {site!r}.")
    here, q = replace(averaged, site=site), q_values(averaged)[site]
    mean = here.mean
    most = float(np.nanmax(np.abs(mean))) or 1.0
    figure = go.Figure(
        go.Heatmap(
            z=mean,
            zmin=-most,
            zmax=most,
            customdata=np.stack([here.low, here.high, q], axis=-1),
            colorscale=diverging_colorscale(theme),
            hovertemplate=f"{named('%{y}', '%{x}', units)}<br>%{{z:.4f}} (%{{customdata[0]:.4f}} to "
            "%{customdata[1]:.4f})<br>q %{customdata[2]:.2g}<extra></extra>",
            hoverongaps=False,
        )
    )
    layers, columns = np.nonzero(q < rate)
    figure.add_scatter(
        x=columns,
        y=layers,
        mode="markers",
        marker={"size": 5, "color": INK[theme]},
        hoverinfo="skip",
        showlegend=False,
    )
    of_layers(figure, mean.shape, units)
    figure.layout.yaxis.scaleanchor = None  # dots need room
    shown = list(range(0, len(mean), -(-len(mean) // _TICKS)))
    figure.update_yaxes(tickvals=shown, ticktext=[str(layer) for layer in shown])
    test = f"Dots: q < {rate:g} by a t-test over {len(here.baseline)} texts"
    note = f"{test}, corrected for all {units}s (Benjamini-Hochberg)."
    framed(figure, title or averaged.title[:1].upper() + averaged.title[1:], (note,), theme)
    return figure.update_layout(plot_bgcolor=NO_VALUE[theme], height=_HEIGHT)
