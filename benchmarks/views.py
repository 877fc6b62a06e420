"""What the views cost: bytes to the browser, time from a click to a picture, memory of the server, in one run.

    python benchmarks/views.py

It starts the app and a Chromium of its own, and reads SmolLM2 on texts of 256, 512 and 2,048 tokens. Bytes are those of
the frames that the websocket received. Memory is the peak (VmHWM) of the server over what it held when idle, with the
model loaded and a short text shown; a plain forward is measured as in benchmarks/trace.py, in a process of its own.
"""

from __future__ import annotations

import json
import os
import random
import re
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import torch
import transformers
from measuring import MB, forward, in_fresh_process, plain_model, row, status_of, token_ids
from playwright.sync_api import Browser, Page, sync_playwright

import attnviz
from attnviz import Head

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "browser"))

from driving import Explore, launch_chromium, running_app  # noqa: E402

SENTENCE = (
    "The keys that the old janitor left beside the open doors of the school were never found again, although the "
    "teachers searched every room twice and the children looked under every tree. "
)
CLICKS = 20
CELLS = 50
_WATCH = """(root, wanted) => {
  window.shownAfter = new Promise((resolve, reject) => document.addEventListener('pointerdown', async () => {
    const start = performance.now();
    while (!wanted.every(([q, k, value]) => Math.abs(root.valueAt(q, k) - value) <= 1e-4)) {
      if (performance.now() - start > 30000) return void reject(new Error('the map of the clicked head never came'));
      await new Promise(requestAnimationFrame);
    }
    await new Promise(requestAnimationFrame);
    await new Promise(requestAnimationFrame);
    resolve(performance.now() - start);
  }, { once: true, capture: true }));
}"""


def text_of(model: attnviz.Model, tokens: int) -> str:
    """A text of exactly so many tokens."""
    words = (SENTENCE * (tokens // 20)).split(" ")
    low, high = 1, len(words)
    while low < high:
        middle = (low + high + 1) // 2
        if len(model.encode(" ".join(words[:middle])).ids) <= tokens:
            low = middle
        else:
            high = middle - 1
    text = " ".join(words[:low])
    while len(model.encode(text).ids) < tokens:
        text += " a"
    assert len(model.encode(text).ids) == tokens
    return text


def still(page: Page) -> None:
    """Wait until the script has ended, and a moment more."""
    page.wait_for_function("() => document.querySelector('.stApp')?.dataset.testScriptState === 'notRunning'")
    page.wait_for_timeout(1_000)


class Received:
    """Bytes of the frames that a page's websockets received."""

    def __init__(self, page: Page) -> None:
        self.bytes = 0
        page.on("websocket", lambda socket: socket.on("framereceived", self._count))

    def _count(self, payload: str | bytes) -> None:
        self.bytes += len(payload)


def opened(browser: Browser, url: str) -> tuple[Explore, Received]:
    page = browser.new_context(viewport={"width": 1280, "height": 1900}).new_page()
    page.set_default_timeout(120_000)
    received = Received(page)
    return Explore(page, url), received


def report_bytes(browser: Browser, url: str, model: attnviz.Model) -> None:
    text = text_of(model, 256)
    explore, _ = opened(browser, url)
    explore.open()
    explore.run(text)
    address = explore.page.url
    explore.page.context.close()
    theirs = bertviz_bytes(text)
    row("BertViz head_view, all layers, 256 tokens", f"{theirs / MB:,.1f} MB")
    for title, path, ready in (("Explore", "/", "map"), ("All heads", "/all_heads", "gallery")):
        explore, received = opened(browser, url)
        explore.page.goto(address.replace("/?", f"{path}?"))
        explore.page.locator(f'[data-key="{ready}"] canvas').first.wait_for()
        still(explore.page)
        row(
            f"{title}, 256 tokens", f"{received.bytes / MB:.2f} MB", f"{theirs / received.bytes:,.0f} times less", "200"
        )
        explore.page.context.close()


def bertviz_bytes(text: str) -> int:
    """The page that BertViz makes of every layer, in a process of its own: it takes gigabytes."""
    return int(in_fresh_process(__file__, "--bertviz", text)["bytes"])


def measure_bertviz(text: str) -> dict[str, int]:
    import bertviz

    hf_model = plain_model("eager")
    tokenizer = attnviz.load_model("smollm2", device="cpu").tokenizer
    ids = tokenizer(text, return_tensors="pt").input_ids
    with torch.no_grad():
        attentions = hf_model(ids, output_attentions=True).attentions
    page = bertviz.head_view(attentions, tokenizer.convert_ids_to_tokens(ids[0]), html_action="return")
    return {"bytes": len(page.data.encode())}


def report_clicks(browser: Browser, url: str, model: attnviz.Model) -> None:
    text = text_of(model, 512)
    trace = model.trace(text, compact=True)
    explore, _ = opened(browser, url)
    explore.open()
    explore.run(text)
    explore.pick(explore.grid, 0, 0)  # the first click after a progress bar builds the page anew; it is not counted
    still(explore.page)
    chance = random.Random(4)
    waits, makes = [], []
    for layer, head in chance.sample([(a, b) for a in range(30) for b in range(9)], CLICKS):
        start = time.perf_counter()
        pattern = trace.pattern(layer, head)
        makes.append((time.perf_counter() - start) * 1e3)
        cells = [(chance.randrange(100, 512), chance.randrange(100)) for _ in range(12)]
        wanted = [[q, k, float(pattern[q, k])] for q, k in cells]
        explore.map.evaluate(_WATCH, wanted)
        explore.pick(explore.grid, layer, head)
        waits.append(explore.page.evaluate("window.shownAfter"))
        explore.settled()
    more = statistics.median(waits) - statistics.median(makes)
    row("the pattern itself, 512 tokens, median", f"{statistics.median(makes):.0f} ms")
    row(
        "click on a head to its map on screen, median",
        f"{statistics.median(waits):.0f} ms",
        f"{more:.0f} ms more",
        "300 ms",
    )
    row("  the slowest of 20", f"{max(waits):.0f} ms")
    explore.page.context.close()


def report_long(browser: Browser, url: str, model: attnviz.Model) -> None:
    text = text_of(model, 2_048)
    server = server_of(url)
    explore, _ = opened(browser, url)
    explore.open()
    explore.run("A short text first.")
    time.sleep(2)
    Path(f"/proc/{server}/clear_refs").write_text("5")  # the peak starts again from here
    idle = status_of(server, "VmRSS")
    start = time.perf_counter()
    explore.run(text)
    explore.map.locator("canvas").wait_for()
    first = time.perf_counter() - start
    row("idle server, model loaded", f"{idle / MB:,.0f} MB")
    forward = in_fresh_process(__file__, "--forward", "2048")
    limit = 1.5 * forward["seconds"] + 3
    row("plain forward, 2,048 tokens", f"{forward['seconds']:.1f} s")
    row("from Run to the first picture", f"{first:.1f} s", "", f"{limit:.1f} s")
    plain = forward["peak"] - forward["base"]
    explored = status_of(server, "VmHWM") - idle
    check_cells(explore, model, text)
    start = time.perf_counter()
    explore.page.get_by_role("link", name="All heads").click()
    explore.page.locator('[data-key="gallery"] canvas').first.wait_for()
    row("all heads of 2,048 tokens on screen", f"{time.perf_counter() - start:.1f} s")
    row("a plain forward in a script adds", f"{plain / MB:,.0f} MB")
    row("the server adds for Explore", f"{explored / MB:,.0f} MB", f"{explored / plain:.2f} times", "1.4")
    still(explore.page)
    most = status_of(server, "VmHWM") - idle
    row("and with All heads", f"{most / MB:,.0f} MB", f"{most / plain:.2f} times", "1.4")
    explore.page.context.close()


def check_cells(explore: Explore, model: attnviz.Model, text: str) -> None:
    """Values read off the canvas by pointing at it, against the pattern: pooled in the overview, exact when zoomed."""
    focus = explore.params()
    head = Head(int(focus["layer"]), int(focus["head"]))
    pattern = model.trace(text, compact=True).pattern(head.layer, head.head)
    chance = random.Random(5)
    for title, window in (("overview", None), ("zoomed", (1_000, 1_064, 900, 964))):
        if window:
            address = f"{explore.page.url}&window={'-'.join(map(str, window))}"
            explore.page.goto(address)
            explore.settled()
        worst = 0.0
        for _ in range(CELLS):
            a, b, c, d = window or (0, 2_048, 0, 2_048)
            query = chance.randrange(a, b)
            key = chance.randrange(c, min(d, query + 1))  # later ones are zero
            line = point_at(explore, query, key)
            rows, cols, value = parsed(line)
            assert rows[0] <= query <= rows[1], (query, line)
            assert cols[0] <= key <= cols[1], (key, line)
            assert ("largest" in line) == (window is None), line
            wanted = float(pattern[rows[0] : rows[1] + 1, cols[0] : cols[1] + 1].max())
            worst = max(worst, abs(value - wanted))
        assert worst <= 5.1e-5, worst
        row(f"{CELLS} cells read off the canvas, {title}", f"{worst:.1e}", "furthest off", "5.1e-05, as printed")


def point_at(explore: Explore, query: int, key: int) -> str:
    at = explore.map.evaluate("(root, [q, k]) => root.cellCenter(q, k)", [query, key])
    explore.page.mouse.move(at["x"], at["y"])
    explore.page.wait_for_timeout(60)
    return explore.map.locator(".readout").inner_text()


def parsed(line: str) -> tuple[tuple[int, int], tuple[int, int], float]:
    """((first, last query), (first, last key), value) of a readout."""
    spans = []
    for axis in ("quer(?:y|ies)", "keys?"):
        match = re.search(rf"{axis} ([0-9]+)(?:–([0-9]+))?", line)
        assert match, line
        spans.append((int(match[1]), int(match[2] or match[1])))
    return spans[0], spans[1], float(line.rsplit(" ", 1)[1])


def server_of(url: str) -> int:
    """The process that serves the app."""
    port = url.rsplit(":", 1)[1]
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"streamlit" in words and port.encode() in words:
            return int(folder.name)
    raise RuntimeError(f"No process serves {url}.")


def measure_forward(length: int) -> dict[str, float]:
    """Seconds, and memory before and at its peak, of one plain forward in this process."""
    hf_model, ids = plain_model("sdpa"), token_ids(length)
    tokenizer = transformers.AutoTokenizer.from_pretrained(hf_model.name_or_path)  # as beside a traced model
    forward(hf_model, ids[:8])
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    base = status_of("self", "VmRSS")
    outputs = forward(hf_model, ids)
    peak = status_of("self", "VmHWM")
    del outputs, tokenizer
    times = []
    for _ in range(3):
        start = time.perf_counter()
        forward(hf_model, ids)
        times.append(time.perf_counter() - start)
    return {"base": base, "peak": peak, "seconds": statistics.median(times)}


def main() -> None:
    if sys.argv[1:2] == ["--bertviz"]:
        print(json.dumps(measure_bertviz(sys.argv[2])))
        return
    if sys.argv[1:2] == ["--forward"]:
        print(json.dumps(measure_forward(int(sys.argv[2]))))
        return
    load = " ".join(f"{x:.1f}" for x in os.getloadavg())
    print(f"AttnViz {attnviz.__version__}, SmolLM2-135M, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
    print(f"{os.cpu_count()} cores, load before {load}\n")
    model = attnviz.load_model("smollm2", device="cpu", dtype="float32")
    reports: list[Callable[[Browser, str, attnviz.Model], None]] = [report_bytes, report_clicks, report_long]
    chosen = [r for r in reports if not sys.argv[1:] or r.__name__.removeprefix("report_") in sys.argv[1:]]
    for report in chosen:
        with running_app() as url, sync_playwright() as playwright:
            browser = launch_chromium(playwright)
            report(browser, url, model)
            browser.close()


if __name__ == "__main__":
    main()
