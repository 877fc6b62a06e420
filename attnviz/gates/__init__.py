"""Teach a model from a handful of corrections: one gate a head, learned with every weight frozen.

gates.learn(model, [("The keys to the cabinet", " are", " is"), ...])   -> Gates
found.held_out, found.test(model, examples)                             before and after, with intervals
found.closed(), found.changed()                                         which heads
found.elsewhere(model, texts)                                           what else moved: KL on unrelated texts
model.trace(text, edits=found.edits())                                  use them; found.bake(model): in the weights
found.save("a.safetensors"); gates.Gates.load("a.safetensors")          keep them; found.to_tensorboard("runs")

A gate only turns a head down. Better on a few examples is not better: see `elsewhere`, and test on others.
"""

from attnviz.gates.examples import Example
from attnviz.gates.learning import learn
from attnviz.gates.result import Gates
from attnviz.gates.scores import Elsewhere, Mean, Tested

__all__ = ["Elsewhere", "Example", "Gates", "Mean", "Tested", "learn"]
