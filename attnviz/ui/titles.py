"""Titles of pictures that leave the page: what they show, and how it was read."""

from __future__ import annotations

from attnviz.trace import Trace
from attnviz.ui.focus import Focus
from attnviz.view import Seen

SCORE_TITLES = {
    "between": "Query to key",
    "sink": "First token",
    "entropy": "Entropy",
    "previous": "Previous token",
    "distance": "Distance",
}


def grid_words(trace: Trace, score: str, focus: Focus) -> str:
    """For a picture that leaves the page: what the grid shows, and between what."""
    if score != "between":
        return f"{SCORE_TITLES[score]} of every head"
    queries, keys = focus.view.axes(trace, focus.head.site)
    query, key = queries.labels[queries.at(focus.queries[0])], keys.labels[keys.at(focus.keys[0])]
    more = [len({units.at(i) for i in chosen}) - 1 for units, chosen in ((queries, focus.queries), (keys, focus.keys))]
    return f"Attention of every head from “{query}”{_and(more[0])} to “{key}”{_and(more[1])}"


def _and(more: int) -> str:
    return f" and {more} more" if more else ""


def read_words(focus: Focus, seen: Seen) -> str:
    """For a picture that leaves the page: how it was read, and what was taken away."""
    sinks = focus.view.sinks
    words = [f"by {focus.view.unit}"] * (focus.view.unit != "token")
    done = {"hide": "sinks hidden", "renormalise": "sinks hidden, rows renormalised", "value-norm": "by value norm"}
    if sinks.active:
        verb = "moved" if sinks.how == "value-norm" else "taken away"
        words.append(f"{done[sinks.how]} ({float(seen.taken.mean()):.0%} {verb})")
    return "".join(f", {word}" for word in words)
