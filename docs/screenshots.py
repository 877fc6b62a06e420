"""Write the pictures of the README: `python docs/screenshots.py` starts the app and a Chromium, and ends both."""

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "browser"))

from driving import Explore, launch_chromium, running_app  # noqa: E402
from playwright.sync_api import Browser, sync_playwright  # noqa: E402

SCREENS = ROOT / "docs" / "screens"
DESKTOP = {"width": 1280, "height": 800}
DATES = {"width": 1280, "height": 1000}  # two strips, and the site picker
PHONE = {"width": 390, "height": 844}
CHINESE = "北京是中国的首都，东京是日本的"
DATE = "the 3rd of May 1998"
SENTENCE = (
    "The keys that the old janitor left beside the open doors of the school were never found again, although the "
    "teachers searched every room twice and the children looked under every tree. "
)
LONG = (SENTENCE * 29).strip()  # about a thousand tokens


def main() -> None:
    SCREENS.mkdir(exist_ok=True)
    with running_app() as url, sync_playwright() as playwright:
        browser = launch_chromium(playwright)
        shoot(browser, url, "explore-light")
        shoot(browser, url, "explore-dark", scheme="dark")
        shoot(browser, url, "explore-phone", viewport=PHONE, is_mobile=True, has_touch=True, device_scale_factor=2)
        shoot(browser, url, "explore-minilm-light", model="minilm")
        shoot(browser, url, "explore-long-light", text=LONG)
        shoot(browser, url, "explore-dates-light", model="dates", text=DATE, viewport=DATES)
        shoot(browser, url, "explore-dates-dark", model="dates", text=DATE, viewport=DATES, scheme="dark")
        shoot(browser, url, "explore-chinese-dark", text=CHINESE, scheme="dark")
        browser.close()


def shoot(
    browser: Browser, url: str, name: str, *, text: str = "", scheme: Any = "light", model: str = "", **options: Any
) -> None:
    context = browser.new_context(**{"viewport": DESKTOP, "color_scheme": scheme, **options})
    context.set_default_timeout(60_000)
    explore = Explore(context.new_page(), url)
    explore.open(f"?model={model}" if model else "")
    if text:
        explore.run(text)
    explore.map.locator("canvas").wait_for()
    explore.page.evaluate("document.fonts.ready")
    explore.text.evaluate("box => { box.scrollTop = 0; box.blur(); }")
    path = SCREENS / f"{name}.png"
    explore.page.screenshot(path=path)
    print(path.relative_to(ROOT))
    context.close()


if __name__ == "__main__":
    main()
