"""What each head does: scores on one text, detectors on one or many, and which heads do alike.

heads.scores(trace)                 entropy, sink, previous token and distance, as a View shows them
heads.detect(trace).frame()         every detector on one text, with the sink and without it, beside its chance level
heads.induction(model)              on random tokens given twice: induction, copying, and what looks at places alone
heads.labels(values, chance)        one label a head, and the share that rests on the sink
heads.pattern_distance(traces)      how alike heads attend; `output_similarity(runs)`, how alike they write
"""

from attnviz.heads.detecting import Detected, detect
from attnviz.heads.detectors import DETECTORS, VARIANTS, Detector, Masks, Measure, chance, measured
from attnviz.heads.families import Pairs, Places, ordered, output_similarity, pattern_distance, places, redundant
from attnviz.heads.induction import PROBES, Probed, copy_scores, induction, repeats
from attnviz.heads.labels import Labelled, labels
from attnviz.heads.position import position_only
from attnviz.heads.rows import (
    NAMES,
    TOKENS,
    Reader,
    RowMeans,
    Scores,
    attention_between,
    clean,
    distance,
    entropy,
    passes,
    previous_token,
    row_means,
    scores,
    sink_mass,
    sweep,
)

__all__ = [
    "DETECTORS",
    "NAMES",
    "PROBES",
    "TOKENS",
    "VARIANTS",
    "Detected",
    "Detector",
    "Labelled",
    "Masks",
    "Measure",
    "Pairs",
    "Places",
    "Probed",
    "Reader",
    "RowMeans",
    "Scores",
    "attention_between",
    "chance",
    "clean",
    "copy_scores",
    "detect",
    "distance",
    "entropy",
    "induction",
    "labels",
    "measured",
    "ordered",
    "output_similarity",
    "passes",
    "pattern_distance",
    "places",
    "position_only",
    "previous_token",
    "redundant",
    "repeats",
    "row_means",
    "scores",
    "sink_mass",
    "sweep",
]
