"""Make sure that there is a Chromium for the browser tests: the machine's own, Debian's package, or Playwright's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome")


def machine_chromium() -> str | None:
    """The path of a Chromium that is installed here, if any."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def main() -> None:
    if machine_chromium():
        return
    if shutil.which("apt-get") and os.geteuid() == 0:
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        packages = ["chromium", "chromium-driver", "fonts-noto-cjk", "fonts-noto-color-emoji", "fonts-noto-core"]
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
        subprocess.run(install, check=True, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
        return
    subprocess.run([sys.executable, "-m", "playwright", "install", "--with-deps", "chromium"], check=True)


if __name__ == "__main__":
    main()
