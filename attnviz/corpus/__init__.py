"""Many texts at once: read, run, kept, and what can be said of them all.

shelf = corpus.Shelf()
key = shelf.add(corpus.read(Path("reviews.csv"), text="review", label="stars"), "Reviews")
ran = corpus.run(model, shelf, key)
corpus.Summary.of(shelf.results(key, ran.run)).frame()    every head's mean with its interval
"""

from attnviz.corpus.changes import Comparison, compare, compare_paired
from attnviz.corpus.reading import Layout, Reading, inspect, read
from attnviz.corpus.records import Corpus, Item, Result, Run
from attnviz.corpus.running import Ran, run, run_key
from attnviz.corpus.shelf import Shelf
from attnviz.corpus.statistics import Choice, Summary, benjamini_hochberg, by_label, outliers

__all__ = [
    "Choice",
    "Comparison",
    "Corpus",
    "Item",
    "Layout",
    "Ran",
    "Reading",
    "Result",
    "Run",
    "Shelf",
    "Summary",
    "benjamini_hochberg",
    "by_label",
    "compare",
    "compare_paired",
    "inspect",
    "outliers",
    "read",
    "run",
    "run_key",
]
