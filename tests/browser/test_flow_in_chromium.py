"""The Flow page in a real Chromium: from a target to an edge, to its head's map, and back; the address restores it."""

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from conftest import NewExplore, NewTab
from driving import FIRST_PICTURE, Explore, Tab
from playwright.sync_api import Page, expect

HOSTILE = '</script><img src=x onerror="window.__pwned=1"> *b* $x$'
EDGES = re.compile(r"[\d,]+ of [\d,]+ edges")


class Flow(Tab):
    """The Flow page in one browser tab."""

    PATH, TITLE = "flow", "Flow"
    DONE = (".st-key-goal-strip",)

    def __init__(self, page: Page, url: str) -> None:
        super().__init__(page, url)
        self.root = self.part("flow-graph")
        self.goal = self.keyed("goal-strip")
        self.heads = self.says("Heads of the edge:")

    def drawn(self) -> "Flow":
        """Wait until the script is done and the graph drawn."""
        self.settled()
        expect(self.noted(EDGES)).to_be_visible(timeout=FIRST_PICTURE)
        self.settled()
        there = "root => !!root.nodeCenter && root.querySelector('canvas').width > 100"
        self.until(lambda: bool(self.root.evaluate(there)))
        return self

    def counted(self) -> str:
        found = EDGES.search(self.noted(EDGES).inner_text())
        assert found is not None
        return found[0]

    def aim(self, column: int) -> None:
        """Make a token of the strip the target."""
        self.goal.locator(f'.chip[data-index="{column}"]').click()
        self.wait_for_params(goal=column)
        self.drawn()

    def place(self, level: int, column: int) -> tuple[float, float]:
        at = self.root.evaluate("(root, at) => root.nodeCenter(...at)", [level, column])
        return at["x"], at["y"]

    def click_at(self, x: float, y: float, reads: str) -> None:
        """Click where the graph reads this."""
        self.page.mouse.move(x, y)
        expect(self.root.locator(".readout")).to_have_text(re.compile(reads, re.DOTALL))
        self.click()


@pytest.fixture
def flow(tab: NewTab, app_url: str) -> Callable[..., Flow]:
    """flow(**address): a person who opens the Flow page."""

    def make(**params: Any) -> Flow:
        return Flow(tab(app_url), app_url).open(**params).drawn()

    return make


def test_from_a_target_by_an_edge_to_its_heads_map_and_back(visit: NewExplore) -> None:
    flow = visit().go(Flow).drawn()
    first = flow.counted()
    flow.aim(9)
    assert flow.counted() != first
    flow.aim(13)
    flow.root.scroll_into_view_if_needed()
    # Left of the fourth token no other line runs, and no dot is near: L23 moves what is known of Mary.
    (x1, y1), (x2, y2) = flow.place(23, 1), flow.place(24, 13)
    flow.click_at(x1 + (x2 - x1) / 8, y1 + (y2 - y1) / 8, "^L23: query 13 .* ← key 1 ")
    flow.wait_for_params(layer=23, query=13, key=1)
    expect(flow.heads).to_contain_text("L23: query 13 ␣to ← key 1 ␣Mary")
    picker = flow.keyed("flow-head")
    picker.get_by_role("radio", name="L23H7").or_(picker.get_by_role("button", name="L23H7")).first.click()
    flow.wait_for_params(head=7)
    expect(flow.says("What L23H7 promotes and suppresses")).to_be_visible()
    promoted = flow.noted("this adds to each token directly")
    expect(promoted).to_contain_text("takes from key 1 “␣Mary” and writes at query 13 “␣to”")
    flow.says("The head's whole output").click()
    expect(promoted).to_contain_text("from all keys together")
    flow.settled()
    address = flow.page.url
    flow.button("Open in Explore").click()
    explore = flow.arrived(Explore)
    expect(explore.says("Attention of L23H7")).to_be_visible()
    expect(explore.noted("Selected: query 13")).to_contain_text("key 1 “␣Mary”")
    explore.look().page.go_back()
    flow = explore.arrived(Flow).drawn()
    expect(flow.heads).to_contain_text("L23: query 13 ␣to ← key 1 ␣Mary")
    assert urlsplit(flow.page.url).query == urlsplit(address).query


def test_the_address_restores_the_graph_in_a_new_tab_and_a_node_becomes_the_target(flow: Callable[..., Flow]) -> None:
    here = flow(goal=8, level=24, share=0.5, method="rollout", layer=3, head=2, query=8, key=0)
    counted, params = here.counted(), here.params()
    assert params | {"goal": "8", "level": "24", "share": "0.5", "method": "rollout"} == params
    again = here.beside().drawn()
    assert again.counted() == counted
    assert again.params() == params
    expect(again.heads).to_contain_text("L3: query 8")
    expect(again.keyed("flow-method").get_by_role("combobox")).to_have_value("Rollout")

    here.root.scroll_into_view_if_needed()
    here.click_at(*here.place(23, 1), "^after layer 22, 1 ")
    here.wait_for_params(goal=1, level=23)
    here.drawn()
    here.root.scroll_into_view_if_needed()
    here.click_at(*here.place(0, 1), "^embeddings, 1 ")
    here.wait_for_params(goal=1, level=None)


def test_hostile_text_is_text_also_on_a_narrow_page(visit: NewExplore) -> None:
    explore = visit(viewport={"width": 390, "height": 844})
    explore.run(HOSTILE)
    flow, params = Flow(explore.page, explore.url), explore.params()
    for aspect, words in {"graph": EDGES, "methods": "No method is the truth", "writes": "Explained: "}.items():
        flow.open(**params, aspect=aspect)
        expect(flow.noted(words)).to_be_visible(timeout=FIRST_PICTURE)
        flow.settled()
        chips = flow.goal.locator(".chip")
        flow.until(lambda chips=chips: "".join(chips.all_text_contents()).startswith("</script"))  # type: ignore[misc]
        assert flow.page.evaluate("window.__pwned") is None
        assert flow.page.evaluate("document.documentElement.scrollWidth <= innerWidth + 1")
