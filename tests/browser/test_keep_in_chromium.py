"""“Keep this” away from Explore, in a real Chromium: what flows is kept, measured again, and opened as it was."""

from conftest import NewTab
from driving import FIRST_PICTURE
from playwright.sync_api import expect
from test_flow_in_chromium import Flow
from test_notebook_in_chromium import Notebook

CLAIM = "What is said comes from the first name"


def test_what_flows_is_kept_and_still_holds(tab: NewTab, app_url: str) -> None:
    flow = Flow(tab(app_url), app_url).open(model="smollm2", method="rollout", key=1)
    flow.keyed("keep-flow-popover").get_by_role("button", name="Keep this").click()
    expect(flow.noted("The share that goes to “Mary” is kept as evidence")).to_be_visible()
    flow.settled()
    flow.keyed("keep-flow-claim").locator("textarea").fill(CLAIM)
    flow.button("Keep it").click()
    flow.button("Open it").click()
    book = flow.arrived(Notebook)
    expect(book.page.get_by_role("heading", name=CLAIM)).to_be_visible()
    expect(book.keyed("notebook-figure").locator(".main-svg").first).to_be_visible()
    book.button("Measure again").click()
    expect(book.noted("Model, weights and programs are as they were")).to_be_visible(timeout=FIRST_PICTURE)
    book.settled().button("Restore this view").click()
    flow = book.arrived(Flow).wait_for_params(model="smollm2", method="rollout", key="1")
    expect(flow.part("flow-graph")).to_be_visible(timeout=FIRST_PICTURE)
