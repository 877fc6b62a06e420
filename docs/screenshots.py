"""Write pictures of every page: `python docs/screenshots.py [name ...]` starts the app and a Chromium, and ends both.

Every page in light and dark, at 1280x800 and on a phone; and Explore on other models and texts.
"""

import io
import sys
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "browser"))

from driving import launch_chromium, running_app  # noqa: E402
from PIL import Image  # noqa: E402
from playwright.sync_api import Browser, sync_playwright  # noqa: E402

SCREENS = ROOT / "docs" / "screens"
DESKTOP = {"viewport": {"width": 1280, "height": 800}}
TALL = {"viewport": {"width": 1280, "height": 1000}}  # for two strips and the site picker
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True, "device_scale_factor": 2}
CHINESE = "北京是中国的首都，东京是日本的"
DATE = "the 3rd of May 1998"
SENTENCE = (
    "The keys that the old janitor left beside the open doors of the school were never found again, although the "
    "teachers searched every room twice and the children looked under every tree. "
)
LONG = (SENTENCE * 29).strip()  # about a thousand tokens
OTHER = "When Mary and John went to the store, Mary gave a drink to"
PAGES: dict[str, dict[str, str]] = {
    "explore": {},
    "all_heads": {"score": "previous"},
    "lines": {"heads": "L23H3.L20H0"},
    "flow": {},
    "heads": {"layer": "16", "head": "0"},
    "ablation": {"layer": "23", "head": "3", "heads": "L23H3"},
    "corpus": {"layer": "16", "head": "0"},
    "generation": {},
    "compare": {"with_second": OTHER},
    "bertviz": {},
    "highlights": {},
    "steering": {"emphasised": "1", "steered": "heads", "heads": "L24H5"},
}
MORE: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    "explore-words-light": ({"unit": "word", "sinks": "renormalise"}, DESKTOP),
    "explore-minilm-light": ({"model": "minilm"}, DESKTOP),
    "explore-long-light": ({"with_text": LONG}, DESKTOP),
    "explore-dates-light": ({"model": "dates", "with_text": DATE}, TALL),
    "explore-dates-dark": ({"model": "dates", "with_text": DATE}, TALL),
    "explore-chinese-dark": ({"with_text": CHINESE}, DESKTOP),
    "all_heads-long-light": ({"with_text": LONG, "score": "entropy"}, DESKTOP),
    "lines-long-light": ({"with_text": LONG}, DESKTOP),
    "compare-models-light": ({"comparison": "models", "other_model": "minilm"}, DESKTOP),
    "compare-templates-light": (
        {
            "comparison": "templates",
            "with_text": "The capital of {input} is",
            "with_second": "Q: What is the capital of {input}? A: The capital is",
            "with_filling": "France",
        },
        DESKTOP,
    ),
    "flow-methods-light": ({"aspect": "methods"}, TALL),
    "flow-writes-dark": ({"aspect": "writes"}, TALL),
    "flow-dates-dark": ({"model": "dates", "with_text": DATE}, TALL),
    "flow-long-light": ({"with_text": SENTENCE * 14}, DESKTOP),
    "flow-chinese-dark": ({"with_text": CHINESE}, DESKTOP),
    "heads-families-dark": ({"facet": "families"}, TALL),
    "heads-induction-light": ({"detector": "induction"}, TALL),
    "heads-dates-light": ({"model": "dates", "detector": "duplicate"}, TALL),
    "lines-chinese-dark": ({"with_text": CHINESE}, DESKTOP),
    "all_heads-chinese-dark": ({"with_text": CHINESE}, DESKTOP),
    "compare-chinese-dark": ({"with_text": CHINESE, "with_second": CHINESE.replace("北京", "南京")}, DESKTOP),
    "compare-long-dark": ({"with_text": LONG, "with_second": LONG.replace("janitor", "teacher")}, DESKTOP),
    "generation-chinese-dark": ({"with_text": CHINESE}, DESKTOP),
    "bertviz-chinese-dark": ({"with_text": CHINESE}, DESKTOP),
    "generation-dates-light": ({"model": "dates", "with_text": DATE}, TALL),
}


def main(wanted: list[str]) -> None:
    SCREENS.mkdir(exist_ok=True)
    with running_app() as url, sync_playwright() as playwright:
        browser = launch_chromium(playwright)
        for page, scheme, (size, options) in product(PAGES, ("light", "dark"), (("", DESKTOP), ("-phone", PHONE))):
            name = f"{page}{size}-{scheme}"
            if not wanted or any(word in name for word in wanted):
                shoot(browser, url, name, page, PAGES[page], options)
        for name, (params, options) in MORE.items():
            if not wanted or any(word in name for word in wanted):
                shoot(browser, url, name, name.split("-")[0], params, options)
        browser.close()


def shoot(browser: Browser, url: str, name: str, page: str, params: dict[str, str], options: dict[str, Any]) -> None:
    context = browser.new_context(color_scheme="dark" if name.endswith("dark") else "light", **options)
    context.set_default_timeout(180_000)
    tab = context.new_page()
    tab.goto(f"{url}/{'' if page == 'explore' else page}?{urlencode(params)}")
    tab.wait_for_function(
        """() => document.querySelector('.stApp')?.dataset.testScriptState === 'notRunning'
          && document.querySelector('.attnviz-caption, [data-testid="stAlert"], canvas')
          && !document.querySelector('[data-testid="stProgress"]')""",
    )
    make = tab.get_by_role("button", name="Make it")
    if make.count():
        make.click()
        tab.locator("iframe").wait_for()
    tab.evaluate("document.fonts.ready")
    tab.wait_for_timeout(1_000)  # observers, and what appears with a movement
    path = SCREENS / f"{name}.png"
    picture = Image.open(io.BytesIO(tab.screenshot()))
    picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path.relative_to(ROOT)}, {path.stat().st_size / 1e3:.0f} kB")
    context.close()


if __name__ == "__main__":
    main(sys.argv[1:])
