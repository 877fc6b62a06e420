"""`make audit`: known weaknesses of the installed packages, by pip-audit. Ends with 1 if there is one.

It asks the network. Where that does not answer, or knows none of the packages, it says so and ends with 0: nothing was
found out. Any other failure is one.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys

_NO_NETWORK = re.compile(r"Max retries exceeded|ConnectionError|ConnectTimeout|NameResolution|timed out|ProxyError")
_SECONDS = 300


def main() -> int:
    command = [sys.executable, "-m", "pip_audit", "--local", "--format", "json", "--progress-spinner", "off"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return _say(f"Not audited: no answer within {_SECONDS} s.", 0)
    if not done.stdout.strip().startswith("{"):
        unreachable = _NO_NETWORK.search(done.stderr)
        return _say("Not audited: no network." if unreachable else done.stderr[-2_000:], 0 if unreachable else 1)
    return _say(*verdict(json.loads(done.stdout)["dependencies"]))


def verdict(found: list[dict[str, object]]) -> tuple[str, int]:
    """What to say of pip-audit's list, and the exit code."""
    looked = [package for package in found if "vulns" in package and "skip_reason" not in package]
    weak = [package for package in looked if package["vulns"]]
    if not looked:
        return f"Not audited: the database that is reached here knows none of {len(found)} packages.", 0
    said = [f"{package['name']} {package['version']}: {package['vulns']}" for package in weak]
    said.append(f"{len(looked)} packages looked up, {len(found) - len(looked)} unknown, {len(weak)} with weaknesses.")
    return "\n".join(said), 1 if weak else 0


def _say(words: str, code: int) -> int:
    sys.stdout.write(f"{words}\n")
    return code


if __name__ == "__main__":
    raise SystemExit(main())
