"""Where a prediction came from, by every published method, and how far each can be trusted.

flow.explain(model, text).frame()                 every method on the likeliest next token
flow.yardstick(model, text, aim_target=Target())  what happens when each token is deleted, replaced, resampled
flow.rollout(trace), flow.max_flow(trace)         attention alone
flow.take_apart(model, text)                      what every head writes, by key
flow.information_flow_routes(run)                 the paths down from its last state, by heads and feed-forward blocks
"""

from attnviz.flow import scoring
from attnviz.flow.graph import Graph, trace_down
from attnviz.flow.logits import attribution, edge_logits, lens, promotes
from attnviz.flow.maxflow import max_flow
from attnviz.flow.methods import METHODS, Explained, explain, steps
from attnviz.flow.mixing import Scores, Step
from attnviz.flow.rollout import rollout
from attnviz.flow.routes import Routes, information_flow_routes
from attnviz.flow.run import Run, take_apart
from attnviz.flow.target import Aim, Target
from attnviz.flow.yardsticks import HOWS, Effects, yardstick

__all__ = [
    "HOWS",
    "METHODS",
    "Aim",
    "Effects",
    "Explained",
    "Graph",
    "Routes",
    "Run",
    "Scores",
    "Step",
    "Target",
    "attribution",
    "edge_logits",
    "explain",
    "information_flow_routes",
    "lens",
    "max_flow",
    "promotes",
    "rollout",
    "scoring",
    "steps",
    "take_apart",
    "trace_down",
    "yardstick",
]
