"""What flow costs and how far its methods can be trusted, in one run.

    python benchmarks/flow.py               times: max-flow against networkx, all methods, each yardstick, a large graph
    python benchmarks/flow.py --table       how methods agree with yardsticks over 100 sentences; writes docs/FLOW.md

Sentences are the first 100 of assets/sentences.txt, two by two about the same thing: SmolLM2 is asked for its likeliest
next token after each, MiniLM for the similarity of each to its partner.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import networkx
import numpy as np
import pandas as pd
import torch
from measuring import row

import attnviz
from attnviz.flow import METHODS, Target, explain, max_flow, scoring, yardstick
from attnviz.flow.yardsticks import HOWS

ROOT = Path(__file__).resolve().parents[1]
SENTENCES = (ROOT / "assets" / "sentences.txt").read_text("utf-8").splitlines()[:100]
TABLE = ROOT / "docs" / "FLOW.md"
TOKENS = 64
MODELS = ("smollm2", "minilm")


def best(run: Callable[[], Any], times: int = 3) -> float:
    """Seconds, the shortest of some tries."""
    took = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        took.append(time.perf_counter() - start)
    return min(took)


def patterns_of(model: attnviz.Model, n_layers: int, n_tokens: int) -> torch.Tensor:
    """[layer, head, query, key] of the first layers of a real run."""
    text = " ".join(SENTENCES)
    trace = model.trace(input_ids=list(model.encode(text).ids)[:n_tokens], compact=True)
    return torch.stack([trace.pattern(layer) for layer in range(n_layers)])


def by_networkx(patterns: torch.Tensor, residual: float = 0.5) -> np.ndarray:
    """Max-flow from the last query of the top layer to every token, one run each, as a graph library does it."""
    mean = (1 - residual) * patterns.double().mean(1) + residual * torch.eye(patterns.shape[-1])
    n_layers, n, _ = mean.shape
    graph = networkx.DiGraph()
    for layer in range(n_layers):
        for query in range(n):
            for key in range(n):
                if mean[layer, query, key] > 0:
                    graph.add_edge((layer + 1, query), (layer, key), capacity=float(mean[layer, query, key]))
    return np.array([networkx.maximum_flow_value(graph, (n_layers, n - 1), (0, key)) for key in range(n)])


def report_max_flow(model: attnviz.Model) -> None:
    small = patterns_of(model, 12, 20)
    theirs = best(lambda: by_networkx(small), 1)
    ours = best(lambda: max_flow(small))
    gap = float(np.abs(by_networkx(small) - max_flow(small).numpy()).max())
    row("max-flow to all 20 tokens, 12 layers, networkx", f"{theirs * 1e3:.0f} ms")
    row("  ours", f"{ours * 1e3:.1f} ms", f"{theirs / ours:.0f} times faster", "40")
    row("  largest difference", f"{gap:.1e}")
    large = patterns_of(model, 30, 128)
    row("max-flow to all 128 tokens, 30 layers", f"{best(lambda: max_flow(large)):.2f} s", "", "2 s")


def report_methods(model: attnviz.Model) -> None:
    ids = list(model.encode(" ".join(SENTENCES)).ids)[:TOKENS]
    explain(model, input_ids=ids[:8])  # what is found once a model
    for name, method in METHODS.items():
        took = best(lambda name=name: explain(model, input_ids=ids, methods=(name,)), 2)
        row(f"  {method.title}, one forward included", f"{took:.2f} s")
    row(
        f"all methods for one target, {TOKENS} tokens",
        f"{best(lambda: explain(model, input_ids=ids)):.2f} s",
        "",
        "3 s",
    )
    for how in HOWS:
        took = best(lambda how=how: yardstick(model, input_ids=ids, aim_target=Target(), how=how), 1)
        row(f"yardstick: {how} each of {TOKENS} tokens", f"{took:.1f} s", "", "8 s")


def report_graph() -> None:
    """A graph of 512 tokens in Chromium: from the click on Run to its drawing, and one drawing."""
    sys.path.insert(0, str(ROOT / "tests" / "browser"))
    from driving import Explore, launch_chromium, running_app
    from playwright.sync_api import sync_playwright

    with running_app() as url, sync_playwright() as playwright:
        browser = launch_chromium(playwright)
        page = browser.new_context(viewport={"width": 1280, "height": 1900}).new_page()
        page.set_default_timeout(120_000)
        explore = Explore(page, url)
        explore.open()
        model = attnviz.load_model("smollm2", device="cpu")
        text = model.tokenizer.decode(model.encode(" ".join(SENTENCES)).ids[:512])
        explore.run(text)
        start = time.perf_counter()
        page.get_by_role("link", name="Flow", exact=True).click()
        canvas = page.locator('[data-testid="flow-graph"] canvas').first
        canvas.wait_for()
        row("512 tokens: from the link to the graph", f"{time.perf_counter() - start:.1f} s")
        drawn = page.locator('[data-testid="flow-graph"]').evaluate(_REDRAW)
        row("  drawing it once more", f"{drawn:.0f} ms")
        browser.close()


_REDRAW = """root => {
  const took = [1, 2, 3, 4, 5].map(() => {
    const start = performance.now();
    root.redraw();
    root.querySelector('canvas').getContext('2d').getImageData(0, 0, 1, 1);
    return performance.now() - start;
  });
  return Math.min(...took);
}"""


def scores_of(model: attnviz.Model, index: int) -> dict[str, np.ndarray]:
    """Every method and yardstick on one sentence: magnitudes, special tokens and the sink left in."""
    text = SENTENCES[index]
    target = Target() if model.has_vocabulary else Target(other=SENTENCES[index ^ 1])
    found = {name: scores.text.numpy() for name, scores in explain(model, text, target=target).scores.items()}
    for how in HOWS:
        found[how] = yardstick(model, text, aim_target=target, how=how, seed=index).text.numpy()
    return found


def compared(model: attnviz.Model) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(first token in, first token out): agreement of every pair over all sentences."""
    texts = []
    for index in range(len(SENTENCES)):
        texts.append(scores_of(model, index))
        print(f"\r{model.name}: {index + 1} of {len(SENTENCES)}", end="", file=sys.stderr)
    print(file=sys.stderr)
    inner = [{name: values[1:] for name, values in one.items()} for one in texts]
    return scoring.over_texts(texts, absolute=True), scoring.over_texts(inner, absolute=True)


def table(agreed: pd.DataFrame, names: Mapping[str, str]) -> str:
    """Rows are methods and yardsticks, columns the yardsticks: mean Spearman and its interval."""
    lines = ["| | " + " | ".join(names[how] for how in HOWS) + " |", "|---|" + "---|" * len(HOWS)]
    pairs = {frozenset((line.a, line.b)): line for line in agreed.itertuples()}
    for name, title in names.items():
        cells = [_cell(pairs.get(frozenset((name, how)))) for how in HOWS]
        if any(cells):
            lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(line: Any) -> str:
    if line is None:
        return ""
    if not line.n_texts:
        return "constant"
    return f"{line.spearman:.2f} ({line.spearman_low:.2f} to {line.spearman_high:.2f})"


def write_table() -> None:
    names = {name: method.title for name, method in METHODS.items()}
    names |= {"delete": "delete the token", "replace": "replace it", "resample": "resample it"}
    parts = []
    for name in MODELS:
        model = attnviz.load_model(name, device="cpu")
        whole, inner = compared(model)
        parts.append(f"## {model.name}\n\n{table(whole, names)}\n\nWithout the first token:\n\n{table(inner, names)}")
    before, _, after = TABLE.read_text("utf-8").partition("<!-- table -->")
    _, _, after = after.partition("<!-- end of table -->")
    made = f"{datetime.now(UTC):%Y-%m-%d}, attnviz {attnviz.__version__}, {len(SENTENCES)} sentences."
    body = "\n\n".join([made, *parts])
    TABLE.write_text(f"{before}<!-- table -->\n\n{body}\n\n<!-- end of table -->{after}", "utf-8")
    print(body)


def main() -> None:
    warnings.simplefilter("ignore")
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--table", action="store_true")
    if options.parse_args().table:
        write_table()
        return
    load = " ".join(f"{x:.1f}" for x in os.getloadavg())
    print(f"AttnViz {attnviz.__version__}, SmolLM2-135M, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
    print(f"{os.cpu_count()} cores, {torch.get_num_threads()} torch threads, load before {load}\n")
    model = attnviz.load_model("smollm2", device="cpu")
    report_max_flow(model)
    report_methods(model)
    report_graph()


if __name__ == "__main__":
    main()
