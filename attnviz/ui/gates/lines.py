"""The Gates page's results as lines of Python that learn the same and make the pictures again."""

from __future__ import annotations

from attnviz.gates import Gates
from attnviz.settings import settings
from attnviz.ui import python_lines as python
from attnviz.ui.gates.asking import Asked
from attnviz.ui.gates.course import Row
from attnviz.ui.selection import Selection


def curve_lines(chosen: Selection, ask: Asked, found: Gates) -> str:
    """How the loss fell: `figures.gates.learning_curve`."""
    lines = _gates(chosen, ask, found, "attnviz.figures.gates")
    lines.append("held_out = found.held_out.title  # before and after")
    return python.shown(lines, "gates.learning_curve", ["found"])


def map_lines(chosen: Selection, ask: Asked, found: Gates, site: str, name: str) -> str:
    """What is taken away of every head: `figures.head_grid`."""
    lines = _gates(chosen, ask, found)
    lines.append(f'taken = 1 - found.values["{site}"]')
    drawn = ["taken", "model.info", f'"{name}"', *python.looks(chosen), "high=None"]
    return python.shown(lines, "head_grid", drawn)


def use_lines(chosen: Selection, ask: Asked, found: Gates, text: str) -> str:
    """The gates at work on a text, in the weights, and in files."""
    lines = _gates(chosen, ask, found)
    given = python.named("text", text, lines, 60)
    lines.append(python.assigned("trace", "model.trace", [given, "edits=found.edits()"]))
    lines.append('found.save("gates.safetensors")')
    lines.append('found.to_tensorboard("runs")')
    if found.changed(1.0):
        lines.append('found.bake(model, folder="taught")  # a checkpoint that needs no edit')
    return "\n".join(lines) + "\n"


def _gates(chosen: Selection, ask: Asked, found: Gates, *modules: str) -> list[str]:
    """The lines that make `model` and `found`."""
    lines = ["import attnviz", *[f"import {module}" for module in modules], "from attnviz import gates", ""]
    name = python.named("name", chosen.model or settings().default_model, lines, len("model = attnviz.load_model()"))
    lines.append(f"model = attnviz.load_model({name})")
    if ask.course.loaded:
        return [*lines, 'found = gates.Gates.load("gates.safetensors")  # the file that was loaded']
    rows = [line for number, row in enumerate(ask.rows, 1) for line in _example(row, number, lines)]
    lines += ["examples = [", *rows, "]"]
    options = {**ask.course.settings, "seed": found.seed}
    if found.stopped == "on request":
        options["steps"] = max(int(found.history.step.max()), 1)  # where it was stopped
    given = [f'{key}="{value}"' if isinstance(value, str) else f"{key}={value!r}" for key, value in options.items()]
    return [*lines, python.assigned("found", "gates.learn", ["model", "examples", *given])]


def _example(row: Row, number: int, lines: list[str]) -> list[str]:
    """A tuple of the list, on several lines where one is too short; what is longer still gets a name before it."""
    given = {"text": row.text, "answer": row.answer, "foil": row.foil}
    parts = [python.named(f"{name}_{number}", one, lines, 9) for name, one in given.items() if one or name != "foil"]
    line = f"    ({', '.join(parts)}),"
    return [line] if len(line) <= 100 else ["    (", *(f"        {part}," for part in parts), "    ),"]
