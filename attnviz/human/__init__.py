"""A person's marks beside what a model attends to.

human.agreement(scores, marks)          how well one number a word agrees with marks, by five metrics
human.band([scores], [marks])           what the best of many heads reaches by chance
human.rank(model, [Marked(...), ...])   every head, layer, method and baseline, and the heads that may be named
human.faithful(model, marked, words)    what becomes of the outcome without the words, and with them alone
human.read_gaze("reader.csv")           reading times, a word a row; human.align finds the words in a model's tokens
human.correlate(model, readings)        reading times against every head, layer and method, raw and over baselines

Words here are those of `attnviz.text.words`, counted from 0, so that marks mean the same for every model.
"""

from attnviz.human.agreement import METRICS, agreement, agreements
from attnviz.human.band import Band, band
from attnviz.human.baselines import BASELINES, baselines, languages
from attnviz.human.candidates import Candidate, Candidates, candidates
from attnviz.human.faithful import Faithful, faithful
from attnviz.human.gaze import Reading, read_gaze
from attnviz.human.gaze_alignment import align
from attnviz.human.gaze_columns import Columns, guess_columns
from attnviz.human.gaze_correlation import Correlation, correlate
from attnviz.human.marked import Marked
from attnviz.human.ranking import Ranking, rank, ranking
from attnviz.human.words import Words, word_scores

__all__ = [
    "BASELINES",
    "METRICS",
    "Band",
    "Candidate",
    "Candidates",
    "Columns",
    "Correlation",
    "Faithful",
    "Marked",
    "Ranking",
    "Reading",
    "Words",
    "agreement",
    "agreements",
    "align",
    "band",
    "baselines",
    "candidates",
    "correlate",
    "faithful",
    "guess_columns",
    "languages",
    "rank",
    "ranking",
    "read_gaze",
    "word_scores",
]
