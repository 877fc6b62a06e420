"""AttnViz: look at attention, and check what you saw.

model = attnviz.load_model("smollm2")
trace = model.trace("When Mary and John went to the store, John gave a drink to")
attnviz.figures.attention_map(trace, attnviz.Head(23, 3)).show()
"""

from attnviz import (
    ablation,
    compare,
    corpus,
    edits,
    errors,
    export,
    feedback,
    figures,
    findings,
    flow,
    gates,
    generated,
    heads,
    human,
    lines,
    metrics,
    overview,
    steering,
)
from attnviz.catalogue import load_model
from attnviz.edits import Head
from attnviz.errors import AttnvizError
from attnviz.info import ModelInfo
from attnviz.models import Model, wrap_model
from attnviz.recording import Recording, record
from attnviz.tokens import Token
from attnviz.trace import Trace
from attnviz.tracefile import load_trace
from attnviz.view import Sinks, View

__all__ = [
    "AttnvizError",
    "Head",
    "Model",
    "ModelInfo",
    "Recording",
    "Sinks",
    "Token",
    "Trace",
    "View",
    "ablation",
    "compare",
    "corpus",
    "edits",
    "errors",
    "export",
    "feedback",
    "figures",
    "findings",
    "flow",
    "gates",
    "generated",
    "heads",
    "human",
    "lines",
    "load_model",
    "load_trace",
    "metrics",
    "overview",
    "record",
    "steering",
    "wrap_model",
]
__version__ = "0.1.0"
