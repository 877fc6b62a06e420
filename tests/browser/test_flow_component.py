"""The flow graph by itself, on graphs of numpy's: what it draws, reads, picks, plays and saves is what it was given."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import NewTab
from harness_data import HOSTILE_LABELS
from harness_flow import flow_of
from playwright.sync_api import Page, expect
from tabs import Harness

SVG = "{http://www.w3.org/2000/svg}"
PLACES = """(root, nodes) => nodes.map(([level, column]) => {
  const { x, y } = root.nodeCenter(level, column);
  return [x, y];
})"""
INK = """(root, [[x1, y1], [x2, y2]]) => {
  const canvas = root.querySelector('canvas');
  const box = canvas.getBoundingClientRect();
  const [x, y] = [(x1 + x2) / 2 - box.left, (y1 + y2) / 2 - box.top].map(size => Math.round(size * devicePixelRatio));
  return canvas.getContext('2d').getImageData(x - 1, y - 1, 3, 3).data.filter((_, i) => i % 4 === 3).some(Boolean);
}"""
PARTS = """(root, ms) => new Promise(done => {
  const seen = [];
  const until = performance.now() + ms;
  const look = () => {
    seen.push(root.shown().part);
    if (performance.now() < until) requestAnimationFrame(look);
    else done(seen);
  };
  look();
})"""


class Flow(Harness):
    """The harness page with one graph, in one tab."""

    def __init__(self, page: Page, url: str) -> None:
        super().__init__(page, url)
        self.root = self.part("flow-graph")
        self.readout = self.root.locator(".readout")
        self.stage = self.root.get_by_role("application")
        self.play = self.root.get_by_role("button", name="Play layer by layer")
        self.pause = self.root.get_by_role("button", name="Pause")
        self.slider = self.root.get_by_role("slider", name="Levels shown")

    def show(self, case: str) -> "Flow":
        self.graph = flow_of(case)
        self.open(case=case)
        self.until(lambda: self.root.evaluate("root => !!root.redraw && root.dataset.step > 0"))
        return self

    def step(self) -> int:
        return int(self.root.get_attribute("data-step") or 0)

    def centers(self, nodes: list[tuple[int, int]]) -> np.ndarray:
        """[node, 2], where the nodes (level, column) are on the page."""
        return np.array(self.root.evaluate(PLACES, [list(map(int, node)) for node in nodes]))

    def lines(self) -> np.ndarray:
        """[edge, lower or upper end, 2], in the order of the graph's table."""
        edges = self.graph.edges
        lower = self.centers(list(zip(edges.start_level, edges.start, strict=True)))
        return np.stack([lower, self.centers(list(zip(edges.end_level, edges.end, strict=True)))], axis=1)

    def read(self, x: float, y: float, begins: str) -> str:
        self.page.mouse.move(x, y)
        expect(self.readout).to_have_text(re.compile(f"^{begins}", re.DOTALL))
        return self.readout.inner_text()

    def token(self, column: int) -> str:
        own = column - (self.graph.n_source if column >= self.graph.n_source else 0)
        return f'{own} "{self.graph.columns[column]}"'

    def clear_spots(self) -> list[tuple[int, np.ndarray]]:
        """(row of an edge, a point on it) for the slanted edges with a point that is far from all other edges."""
        lines, found, edges = self.lines(), [], self.graph.edges
        same = (edges.start == edges.end).to_numpy()
        # Attention of a token to itself is bowed, by no more than 16 pixels.
        clear = np.where(same & (edges.kind == "attention").to_numpy(), 19, 3)
        for row in np.flatnonzero(~same):
            for t in np.linspace(0.3, 0.7, 21):
                point = lines[row, 0] + t * (lines[row, 1] - lines[row, 0])
                near = distances(point, lines) <= clear
                if near.sum() == 1:
                    found.append((int(row), point))
                    break
        return found


def distances(point: np.ndarray, lines: np.ndarray) -> np.ndarray:
    """[edge]: how far each of the straight lines is from the point."""
    start, along = lines[:, 0], lines[:, 1] - lines[:, 0]
    t = ((point - start) * along).sum(1) / (along**2).sum(1)
    return np.linalg.norm(point - start - t.clip(0, 1)[:, None] * along, axis=1)


NewFlow = Callable[..., Flow]


@pytest.fixture
def show(tab: NewTab, harness_url: str) -> NewFlow:
    """show(case, **context options): a tab with the harness page of this graph."""
    return lambda case, **options: Flow(tab(harness_url, **options), harness_url).show(case)


@pytest.mark.parametrize("case", ["flow", "flow-source"])
def test_edges_have_ink_and_read_as_the_graph_says(show: NewFlow, case: str) -> None:
    flow = show(case)
    spots = flow.clear_spots()
    assert len(spots) >= 5
    for choice in np.random.default_rng(0).choice(len(spots), 5, replace=False):
        row, point = spots[choice]
        edge = flow.graph.edges.iloc[row]
        assert flow.root.evaluate(INK, [point.tolist(), point.tolist()])
        where = {"encoder": "encoder self-attention", "decoder": "decoder self-attention", "cross": "cross-attention"}
        layer = f"L{edge.layer}" + (f", {where[edge.site]}" if case == "flow-source" else "")
        said = flow.read(*point, f"{layer}: query .* ← key ")
        assert said.startswith(f"{layer}: query {flow.token(edge.end)} ← key {flow.token(edge.start)}: mass ")
        assert float(said.rsplit(" ", 1)[1]) == pytest.approx(edge.mass, abs=6e-5)


def test_kept_edges_attention_to_oneself_and_nodes_read_as_the_graph_says(show: NewFlow) -> None:
    flow = show("flow")
    lower, upper = flow.centers([(3, 13), (4, 13)])
    edges = flow.graph.edges[(flow.graph.edges.end_level == 4) & (flow.graph.edges.start == 13)].set_index("kind")
    said = flow.read(*(0.4 * lower + 0.6 * upper), "L3: ")
    assert said == f"L3: {flow.token(13)} kept: mass {edges.mass['kept']:.4f}"
    x, y = (lower + upper) / 2
    said = flow.read(x + 15, y, "L3: query")
    assert said.endswith(f"mass {edges.mass['attention']:.4f}")

    edges = flow.graph.edges
    for level, column in [(4, 13), (3, 13), (0, 0)]:
        said = flow.read(*flow.centers([(level, column)])[0], re.escape(f"{flow.graph.levels[level]}, {column} "))
        mass = 1 if level == 4 else edges[(edges.start_level == level) & (edges.start == column)].mass.sum()
        assert float(re.search(r": mass ([\d.]+)", said)[1]) == pytest.approx(mass, abs=6e-5)  # type: ignore[index]
        assert (", the target" in said) == (level == 4)
        side = ["end_level", "end"] if level else ["start_level", "start"]
        own = edges[(edges[side[0]] == level) & (edges[side[1]] == column)].sort_values("mass", ascending=False)
        listed = [float(value) for value in re.findall(r" · [←→].*? ([\d.]+)(?= ·|$)", said)]
        assert listed == pytest.approx(own.mass.head(5).tolist(), abs=6e-5)
        assert ("and" in said.rsplit(" · ", 1)[1]) == (len(own) > 5)


def test_a_target_of_the_whole_text_is_every_token_of_it(show: NewFlow) -> None:
    flow = show("flow-all")
    for column in (0, 9):
        said = flow.read(*flow.centers([(3, column)])[0], f"after layer 2, {column} ")
        mass = flow.graph.edges.query("end_level == 3 and end == @column").mass.sum()
        assert f"{flow.token(column)}: mass {mass:.4f}, one of the targets · ← " in said


def test_clicks_give_python_the_node_and_the_edge(show: NewFlow) -> None:
    flow = show("flow-source")
    edges = flow.graph.edges
    flow.page.mouse.click(*flow.centers([(7, 15)])[0])
    flow.wait_said("node", [7, 15])
    spots = {edges.iloc[row].site: (edges.iloc[row], point) for row, point in flow.clear_spots()}
    assert set(spots) == {"encoder", "decoder", "cross"}
    for site, (edge, point) in spots.items():
        flow.page.mouse.click(*point)
        query = int(edge.end) - (0 if site == "encoder" else 9)
        key = int(edge.start) - (9 if site == "decoder" else 0)
        flow.wait_said("edge", [int(edge.layer), site, query, key])


def test_a_place_without_mass_can_become_the_target_but_a_kept_edge_opens_nothing(show: NewFlow) -> None:
    flow = show("flow")
    flow.page.mouse.click(*flow.centers([(4, 5)])[0])
    flow.wait_said("node", [4, 5])
    lower, upper = flow.centers([(3, 13), (4, 13)])
    flow.page.mouse.click(*(0.4 * lower + 0.6 * upper))
    flow.page.mouse.click(*flow.centers([(4, 6)])[0])
    flow.wait_said("node", [4, 6])
    assert [name for name, _ in flow.said()[-2:]] == ["node", "node"]


def test_the_keyboard_walks_over_nodes_and_along_edges(show: NewFlow) -> None:
    flow = show("flow")
    live = flow.root.locator("[aria-live]")
    flow.stage.focus()
    press = flow.page.keyboard.press
    press("ArrowLeft")
    expect(live).to_have_text(re.compile("^after layer 3, 12 "))
    press("ArrowDown")
    expect(live).to_have_text(re.compile("^after layer 2, 12 "))
    press("Home")
    expect(live).to_have_text(re.compile("^after layer 2, 0 "))
    press("End")
    press("ArrowUp")
    expect(live).to_have_text(re.compile(f"^after layer 3, {flow.token(13)}: mass 1.0000, the target"))
    press("Enter")
    flow.wait_said("node", [4, 13])
    edges = flow.graph.edges
    own = edges[edges.end_level == 4].sort_values("mass", ascending=False)
    expected = ["kept" if edge.kind == "kept" else f"← key {flow.token(edge.start)}" for edge in own.itertuples()]
    for words in expected[:3]:
        press("e")
        expect(live).to_contain_text(words)
    press("Shift+E")
    expect(live).to_contain_text(expected[1])
    press("Shift+Enter")
    flow.wait_said("edge", [3, "decoder", 13, int(own.iloc[1].start)])
    press("ArrowDown")
    expect(live).to_have_text(re.compile(f"^after layer 2, {re.escape(flow.token(int(own.iloc[1].start)))}"))


def test_playing_reveals_from_the_target_down_and_stops_and_the_slider_hides(show: NewFlow) -> None:
    flow = show("flow")
    (x1, y1), (x2, y2) = flow.centers([(0, 13), (1, 13)])
    lowest = [[x1, y1], [x2, y2]]
    assert flow.root.evaluate(INK, lowest)
    flow.root.get_by_role("combobox", name="Speed").select_option("4")
    flow.play.click()
    flow.until(lambda: flow.step() >= 1)
    flow.until(lambda: not flow.root.evaluate(INK, lowest))
    flow.until(lambda: flow.step() >= 2)
    flow.pause.click()
    stopped = flow.root.evaluate("root => root.shown()")
    assert stopped["part"] == 0
    assert stopped["step"] < 4
    flow.page.wait_for_timeout(500)  # two steps: that nothing comes cannot be waited for
    assert flow.root.evaluate("root => root.shown()") == stopped
    down_to = flow.graph.levels[4 - stopped["step"]]
    expect(flow.slider).to_have_attribute("aria-valuetext", f"down to {down_to}")
    flow.play.click()
    flow.until(lambda: flow.step() == 4 and flow.root.get_attribute("data-playing") == "false")
    flow.until(lambda: bool(flow.root.evaluate(INK, lowest)))

    # What the slider hides the pointer does not find.
    flow.slider.press("Home")
    flow.slider.press("ArrowRight")
    expect(flow.slider).to_have_attribute("aria-valuetext", "down to after layer 2")
    lower, upper = flow.centers([(2, 13), (3, 13)])
    flow.page.mouse.move(*((lower + upper) / 2))
    expect(flow.readout).to_have_text(re.compile("^Point at"))
    flow.slider.press("End")
    flow.read(*((lower + upper) / 2), "L2: ")


def test_edges_grow_unless_less_motion_is_asked_for(show: NewFlow) -> None:
    flow = show("flow", reduced_motion="reduce")
    for motion in ("reduce", "no-preference"):
        flow.page.emulate_media(reduced_motion=motion)
        flow.play.click()
        parts = flow.root.evaluate(PARTS, 700)  # some of the steps
        flow.slider.press("End")
        expect(flow.play).to_be_visible()
        assert any(0 < part < 1 for part in parts) == (motion == "no-preference")


def test_a_large_graph_is_drawn_whole_and_read_in_place(show: NewFlow) -> None:
    flow = show("flow-huge")
    assert len(flow.graph.edges) == 20_000
    flow.root.get_by_role("button", name="Whole text").click()
    (x, y), (left, _) = flow.centers([(30, 511), (30, 0)])
    assert 0 < left < x < 1280
    flow.read(x, y, "after layer 29, 511 ")


def test_a_narrow_page_scrolls_the_graph_and_starts_at_the_target(show: NewFlow) -> None:
    flow = show("flow-long", viewport={"width": 390, "height": 1000})
    assert flow.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert flow.stage.evaluate("stage => stage.scrollWidth > stage.clientWidth && stage.scrollLeft > 0")
    (x, y), *_ = flow.centers([(6, 119)])
    assert 0 < x < 390
    flow.read(x, y, "after layer 5, 119 ")


def test_hostile_labels_stay_text_also_in_the_files(show: NewFlow, tmp_path: Path) -> None:
    flow = show("flow")
    for column in range(len(HOSTILE_LABELS)):
        said = flow.read(*flow.centers([(0, column)])[0], f"embeddings, {column} ")
        assert flow.graph.columns[column].replace("\u2028", " ") in said.replace("\u2028", " ").replace("\n", " ")
    flow.root.locator("summary").click()
    expect(flow.root.locator("tbody tr")).to_have_count(60)
    for kind in ("PNG", "SVG"):
        flow.saved(flow.root.get_by_role("button", name=f"Save this picture as {kind}"), tmp_path / kind)
    assert (tmp_path / "PNG").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    nodes = list(ET.fromstring((tmp_path / "SVG").read_text("utf-8")).iter())
    assert {node.tag for node in nodes} <= {f"{SVG}{tag}" for tag in ("svg", "g", "clipPath", "path", "rect", "text")}
    texts = [node.text or "" for node in nodes if node.tag == f"{SVG}text"]
    assert f"A title {HOSTILE_LABELS[0]}" in texts
    assert texts.count("w7") == 2
    assert sum(text.startswith("</script><img") for text in texts) == 2
    assert flow.root.evaluate("root => root.querySelectorAll('img, script').length") == 0
    assert flow.page.evaluate("window.__pwned") is None
