"""The Flow page in a real Chromium: from a target to an edge, to its head's map, and back; the address restores it."""

import re
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from driving import FIRST_PICTURE, Explore
from playwright.sync_api import Page, expect

NewExplore = Callable[..., Explore]
HOSTILE = '</script><img src=x onerror="window.__pwned=1"> *b* $x$ <svg/onload=window.__pwned=1>'
SECONDS = 30
EDGES = re.compile(r"[\d,]+ of [\d,]+ edges")


class Flow:
    """The Flow page in one browser tab."""

    def __init__(self, explore: Explore) -> None:
        self.explore, self.page = explore, explore.page
        self.root = self.page.locator('[data-testid="flow-graph"]')
        self.goal = self.page.locator(".st-key-goal-strip")
        self.heads = self.page.get_by_text("Heads of the edge:")

    def by_menu(self) -> "Flow":
        self.page.get_by_role("link", name="Flow").click()
        return self.drawn()

    def drawn(self) -> "Flow":
        expect(self.page.locator(".attnviz-caption", has_text=EDGES)).to_be_visible(timeout=FIRST_PICTURE)
        self.still()
        return self

    def still(self) -> None:
        """Wait until the script is done and the graph drawn."""
        self.page.wait_for_function("document.querySelector('.stApp').dataset.testScriptState === 'notRunning'")
        end = time.monotonic() + SECONDS
        while not self.root.evaluate("root => !!root.nodeCenter && root.querySelector('canvas').width > 100"):
            assert time.monotonic() < end
            self.page.wait_for_timeout(100)

    def counted(self) -> str:
        found = EDGES.search(self.page.locator(".attnviz-caption", has_text=EDGES).inner_text())
        assert found is not None
        return found[0]

    def place(self, level: int, column: int) -> tuple[float, float]:
        at = self.root.evaluate("(root, at) => root.nodeCenter(...at)", [level, column])
        return at["x"], at["y"]

    def click(self, x: float, y: float) -> None:
        self.page.mouse.move(x, y)
        self.page.wait_for_timeout(50)
        self.page.mouse.down()
        self.page.mouse.up()

    def until(self, **wanted: object) -> None:
        """Wait until the address has these values; None: it has no such."""
        self.page.wait_for_function(
            "wanted => Object.entries(wanted).every("
            "([name, value]) => new URL(location.href).searchParams.get(name) === value)",
            arg={name: None if value is None else str(value) for name, value in wanted.items()},
        )
        self.page.wait_for_function("document.querySelector('.stApp').dataset.testScriptState === 'notRunning'")


def test_from_a_target_by_an_edge_to_its_heads_map_and_back(visit: NewExplore) -> None:
    flow = Flow(visit()).by_menu()
    first = flow.counted()
    flow.goal.locator('.chip[data-index="9"]').click()
    flow.until(goal=9)
    flow.drawn()
    assert flow.counted() != first
    flow.goal.locator('.chip[data-index="13"]').click()
    flow.until(goal=13)
    flow.drawn()
    flow.root.scroll_into_view_if_needed()
    # Left of the fourth token no other line runs, and no dot is near: L23 moves what is known of Mary.
    (x1, y1), (x2, y2) = flow.place(23, 1), flow.place(24, 13)
    flow.click(x1 + (x2 - x1) / 8, y1 + (y2 - y1) / 8)
    flow.until(layer=23, query=13, key=1)
    expect(flow.heads).to_contain_text("L23: query 13 ␣to ← key 1 ␣Mary")
    flow.page.locator(".st-key-flow-head").get_by_role("radio", name="L23H7").or_(
        flow.page.locator(".st-key-flow-head").get_by_role("button", name="L23H7")
    ).first.click()
    flow.until(head=7)
    expect(flow.page.get_by_text("What L23H7 promotes and suppresses")).to_be_visible()
    promoted = flow.page.locator(".attnviz-caption", has_text="this adds to each token directly")
    expect(promoted).to_contain_text("takes from key 1 “␣Mary” and writes at query 13 “␣to”")
    flow.page.get_by_text("The head's whole output").click()
    expect(promoted).to_contain_text("from all keys together")
    address = flow.page.url
    flow.page.get_by_role("button", name="Open in Explore").click()
    expect(flow.page.get_by_text("Attention of L23H7")).to_be_visible()
    expect(flow.page.locator(".attnviz-caption", has_text="Selected: query 13")).to_contain_text("key 1 “␣Mary”")
    flow.page.go_back()
    flow.drawn()
    expect(flow.heads).to_contain_text("L23: query 13 ␣to ← key 1 ␣Mary")
    assert urlsplit(flow.page.url).query == urlsplit(address).query


def test_the_address_restores_the_graph_in_a_new_tab(visit: NewExplore) -> None:
    explore = visit("?goal=8&level=24&share=0.5&method=rollout&layer=3&head=2&query=8&key=0")
    flow = Flow(explore).by_menu()
    counted, params = flow.counted(), explore.params()
    assert params | {"goal": "8", "level": "24", "share": "0.5", "method": "rollout"} == params
    other: Page = explore.page.context.new_page()
    other.goto(explore.page.url)
    again = Flow(Explore(other, explore.url)).drawn()
    assert again.counted() == counted
    assert again.explore.params() == params
    expect(again.heads).to_contain_text("L3: query 8")
    expect(other.locator(".st-key-flow-method").get_by_role("combobox")).to_have_value("Rollout")


def test_a_node_becomes_the_target(visit: NewExplore) -> None:
    flow = Flow(visit()).by_menu()
    flow.root.scroll_into_view_if_needed()
    flow.click(*flow.place(23, 1))
    flow.until(goal=1, level=23)
    flow.drawn()
    flow.root.scroll_into_view_if_needed()
    flow.click(*flow.place(0, 1))
    flow.until(goal=1, level=None)


def test_hostile_text_is_text_also_on_a_narrow_page(visit: NewExplore) -> None:
    explore = visit(viewport={"width": 390, "height": 844})
    explore.run(HOSTILE)
    page, flow, query = explore.page, Flow(explore), urlsplit(explore.page.url).query
    for aspect, words in {"graph": EDGES, "methods": "No method is the truth", "writes": "Explained: "}.items():
        page.goto(f"{explore.url}/flow?{query}&aspect={aspect}")
        expect(page.locator(".attnviz-caption", has_text=words)).to_be_visible(timeout=FIRST_PICTURE)
        page.wait_for_function("document.querySelector('.stApp').dataset.testScriptState === 'notRunning'")
        assert "".join(flow.goal.locator(".chip").all_text_contents()).startswith("</script")
        assert page.evaluate("window.__pwned") is None
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth + 1")
