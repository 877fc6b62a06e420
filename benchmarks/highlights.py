"""Marks of one person on sixteen texts against every head, layer, method and baseline.

    python benchmarks/highlights.py            both embedded models, to the screen, as docs/HIGHLIGHTS.md has it
    python benchmarks/highlights.py minilm     one of them

The texts are ours and so are the marks (in brackets, beside the texts): the words that answer a question. One person's
marks on texts made for the purpose show what the ranking does, not how people read.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

import attnviz
from attnviz import Sinks
from attnviz.human import Marked, Ranking, faithful, rank
from attnviz.text import words

TEXTS = Path(__file__).with_name("highlights_texts.jsonl")
SHOWN = ["auroc", "auprc", "spearman", "token_f1", "iou_f1"]


def marked_texts(*, similar: bool) -> list[Marked]:
    """The texts, for a model that continues them, or for one that says how similar a question is."""
    out = []
    for line in TEXTS.read_text("utf-8").splitlines():
        given = json.loads(line)
        start, end = given["passage"].index("["), given["passage"].index("]") - 1
        passage = re.sub(r"[\[\]]", "", given["passage"])
        if similar:
            out.append(Marked.at(passage, [(start, end, 1.0)], other=given["question"]))
            continue
        text = f"{passage} {given['question']} {given['lead']}"
        last = len(words(text)) - 1
        out.append(Marked.at(text, [(start, end, 1.0)], query=last, passage=(0, len(passage))))
    return out


def table(found: Ranking, kind: str, most: int = 40) -> str:
    rows = found.frame[found.frame.kind == kind].head(most)
    lines = [f"| {kind} | AUROC, 95% interval | AUPRC | Spearman | token-F1 | IOU-F1 | p |", "|---" * 7 + "|"]
    for row in rows.to_dict("records"):
        mean = f"{row['auroc']:.2f}, {row['auroc_low']:.2f} to {row['auroc_high']:.2f}"
        rest = " | ".join(f"{row[name]:.2f}" for name in SHOWN[1:])
        lines.append(f"| {row['name']} | {mean} | {rest} | {row['p']:.4f} |")
    return "\n".join(lines)


def reliance(model: attnviz.Model, marked: Sequence[Marked], found: Ranking, names: Sequence[str]) -> str:
    """Mean comprehensiveness and sufficiency over the texts."""
    frames = []
    for one, read in zip(marked, found.texts, strict=True):
        at = {each.name: row for row, each in enumerate(read.names)}
        own = faithful(model, one, read.words, {name: read.scores[at[name]] for name in names}, n_random=3)
        frames.append(own.frame.assign(clean=own.clean))
    mean = pd.concat(frames).groupby("name", sort=False).mean()
    lines = [
        "| words | comprehensiveness | sufficiency | AOPC, comprehensiveness | AOPC, sufficiency |",
        "|---" * 5 + "|",
    ]
    for row in mean.reset_index().to_dict("records"):
        values = [row[column] for column in mean.columns if column != "clean"]
        lines.append(f"| {row['name']} | " + " | ".join("" if v != v else f"{v:.3f}" for v in values) + " |")
    return "\n".join([*lines, "", f"The outcome of the whole text: {mean.clean.mean():.3f} in the mean."])


def main(names: Sequence[str]) -> None:
    for name in names or ("smollm2", "minilm"):
        model = attnviz.load_model(name, device="cpu", dtype="float32")
        marked = marked_texts(similar=not model.has_vocabulary)
        for how in ("show", "renormalise"):
            sinks = Sinks("show" if how == "show" else "renormalise", ("first", "special"))
            found = rank(model, marked, sinks=sinks)
            band = found.bands["head"]
            print(f"\n### {model.name}, sinks {'left in' if how == 'show' else 'taken out'}\n")
            print(f"Best of {len(band.observed)} heads by chance: AUROC median, 95%, 99%", band.quantiles().round(3))
            print(found.why, " ".join(map(str, found.named)), "\n")
            for kind, most in (("head", 8), ("layer", 3), ("method", 20), ("baseline", 10)):
                print(table(found, kind, most), "\n")
            if how == "show":
                best = str(found.frame[found.frame.kind == "head"].name.iloc[0])
                print(reliance(model, marked, found, [best, "relevance", "rarity"]))


if __name__ == "__main__":
    main(sys.argv[1:])
