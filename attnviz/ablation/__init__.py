"""Break any head and see what changes: exactly, or estimated first.

ablation.sweep(model, text, metric)                          every head, exactly, in half the layers of one run a head
ablation.pieces(model, text, metric)                         the same bit by bit: stop at any time, go on later
ablation.screen(model, text, metric)                         estimates, from one forward and one backward pass
ablation.over_texts(model, ablation.read_cases("a.jsonl"))   the mean over minimal pairs, with intervals

`how` is "zero" (off-distribution), "mean" over reference texts, or "resample" from a donor text. A head is important
only where they agree, on several texts.
"""

from attnviz.ablation.cases import Averaged, Case, over_texts, read_cases
from attnviz.ablation.screen import Screened, screen
from attnviz.ablation.sweep import Sweep, pieces, sweep

__all__ = ["Averaged", "Case", "Screened", "Sweep", "over_texts", "pieces", "read_cases", "screen", "sweep"]
