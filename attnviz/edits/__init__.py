"""What can be changed in a run, as small frozen dataclasses.

    ZeroHeads([Head(23, 3)])                             a head's output set to zero (off-distribution)
    ScaleHeads({Head(23, 3): 0.5})                       multiplied
    MeanHeads([Head(23, 3)], texts=["...", "..."])       set to its mean over reference texts
    ResampleHeads([Head(23, 3)], donor="...")            set to what it is on another text
    KnockOut(query=5, key=0, heads=[Head(23, 3)])        a query that no longer reads a key
    Steer(tokens=[3, 4], heads=[Head(23, 3)])            keys outside some tokens scaled down before the softmax
    ExternalAttention([0, 1, 1], beta=2.0)               a person's weights added to the scores, or mixed in (alpha)

An edit is a value: it holds what to change, never a model or a tensor of one, so it can be compared, hashed, written
down and handed to any number of runs at once. Before a run, `Model.ready` binds the edits that need to know it: how
many tokens it has, and what stands in for a head. The tap (`attnviz.tap`) asks each edit of a call whether it touches
a layer. Every edit works out of place. Several hold at once: what is knocked out or added to scores is so before the
softmax, in whatever order; then patterns are mixed with external attention, and then heads' outputs changed, each in
the order given (docs/STEERING.md).

Head outputs are z, `[batch, query, head, d_head]`: what a head has read, before the output projection mixes the heads
(docs/DESIGN.md says why not after it).
"""

from attnviz.edits.base import SITES, Edit, Head, checked
from attnviz.edits.edges import KnockOut
from attnviz.edits.external import ExternalAttention
from attnviz.edits.outputs import HeadEdit, ScaleHeads, ZeroHeads
from attnviz.edits.stand_ins import MeanHeads, ResampleHeads
from attnviz.edits.steer import Steer

__all__ = [
    "SITES",
    "Edit",
    "ExternalAttention",
    "Head",
    "HeadEdit",
    "KnockOut",
    "MeanHeads",
    "ResampleHeads",
    "ScaleHeads",
    "Steer",
    "ZeroHeads",
    "checked",
]
