"""Break any head and see what changes: exactly, or estimated first.

ablation.sweep(model, text, metric)                          every head, exactly, in half the layers of one run a head
ablation.pieces(model, text, metric)                         the same bit by bit: stop at any time, go on later
ablation.screen(model, text, metric)                         estimates, from one forward and one backward pass
ablation.over_texts(model, ablation.read_cases("a.jsonl"))   the mean over minimal pairs, with intervals
ablation.table(model, cases, heads)                          head x method x prompt; band and verdict: against controls
ablation.curve(model, texts, metric)                         heads removed one after the other
ablation.bake(model, {Head(23, 3): 0.5}, folder="a")         head scales in the weights; take_out: heads really gone

`how` is "zero" (off-distribution), "mean" over reference texts, or "resample" from a donor text. A head is important
only where they agree, on several texts.
"""

from attnviz.ablation.asked import Question
from attnviz.ablation.baking import Baked, bake
from attnviz.ablation.cases import Averaged, Case, over_texts, read_cases
from attnviz.ablation.controls import Interaction, Table, band, donors, interaction, random_sets, table
from attnviz.ablation.held import Removal
from attnviz.ablation.pruning import Curve, curve
from attnviz.ablation.screen import Screened, screen
from attnviz.ablation.swapping import Donor, propose_donor, propose_foil
from attnviz.ablation.sweep import Sweep, pieces, sweep
from attnviz.ablation.taking_out import take_out
from attnviz.ablation.verdicts import Verdict, verdict

__all__ = [
    "Averaged",
    "Baked",
    "Case",
    "Curve",
    "Donor",
    "Interaction",
    "Question",
    "Removal",
    "Screened",
    "Sweep",
    "Table",
    "Verdict",
    "bake",
    "band",
    "curve",
    "donors",
    "interaction",
    "over_texts",
    "pieces",
    "propose_donor",
    "propose_foil",
    "random_sets",
    "read_cases",
    "screen",
    "sweep",
    "table",
    "take_out",
    "verdict",
]
