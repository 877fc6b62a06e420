"""AttnViz from the command line: `python -m attnviz COMMAND`; each command is one function and one parser."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from transformers.utils.logging import disable_progress_bar

from attnviz import report
from attnviz.catalogue import load_model
from attnviz.errors import AttnvizError, InputError
from attnviz.findings import verifying

HOLDS, NO_LONGER, BAD_INPUT = 0, 1, 2

_VERIFY = """
Repeat the measurements of exported findings on a model, and say which still hold.

A finding is counted where its status rests on a planned measurement: a supported one has to be supported again, and a
refuted one refuted again, on the same texts with the same controls. All other evidence is measured and shown, and
counted with --all: its mean has to lie within the 95% interval that it had or, without one, no farther than 5% from it.
Where nothing would be counted, nothing is measured: a file of hypotheses alone needs --all.
"""
_CODES = """
exit codes:
  0   every counted finding still holds
  1   one does not, or cannot be measured on this model
  2   the file, the model or the options are wrong, or no finding is counted
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. What is wrong is told on stderr, in a sentence."""
    asked = _parser().parse_args(argv)
    try:
        return int(asked.run(asked))
    except AttnvizError as error:
        sys.stderr.write(f"attnviz: {error}\n")
        return BAD_INPUT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="attnviz", description="Look at attention, and check what you saw. Without a command: streamlit run app.py"
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_verify(commands)
    _add_report(commands)
    return parser


def _add_verify(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "verify",
        help="repeat the measurements of exported findings on a model",
        description=_VERIFY,
        epilog=_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", metavar="FILE", help="findings as JSON Lines, as the app exports them")
    parser.add_argument("--model", required=True, metavar="NAME", help="an embedded name, a Hub id, or a folder")
    parser.add_argument("--revision", metavar="R", help="branch, tag or commit on the Hub")
    parser.add_argument("--dtype", default="auto", metavar="D", help="auto, float32, float16 or bfloat16")
    parser.add_argument("--device", default="auto", metavar="D", help="auto, cpu, cuda, mps")
    parser.add_argument("--only", nargs="+", default=(), metavar="ID", help="only findings whose id begins so")
    parser.add_argument("--all", action="store_true", help="count all evidence, of hypotheses too")
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write all figures to this file")
    parser.set_defaults(run=_verify)


def _verify(asked: argparse.Namespace) -> int:
    findings = verifying.read_findings(asked.file, asked.only)
    verifying.check_counted(findings, everything=asked.all)
    model = load_model(asked.model, revision=asked.revision, device=asked.device, dtype=asked.dtype)
    _say(f"{model.name}, {model.info.dtype} on {model.hf_model.device}\n\n{verifying.HEADER}")
    found = []
    for one in verifying.verified(model, findings, everything=asked.all):
        found.append(one)
        for row in one.rows():
            _say(row)
    _say(f"\n{verifying.ending(found)}")
    if asked.json is not None:
        try:
            asked.json.write_text(verifying.as_json(model, found), "utf-8")
        except OSError as error:
            raise InputError(f"{asked.json} cannot be written: {error.strerror}.") from error
    return NO_LONGER if any(one.holds is False for one in found) else HOLDS


def _add_report(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "report",
        help="write exported findings as one file to read, HTML or Markdown",
        description="Write exported findings as one file that opens without a network; no model is needed.",
    )
    parser.add_argument("file", metavar="FILE", help="findings as JSON Lines, as the app exports them")
    parser.add_argument("--out", required=True, type=Path, metavar="OUT", help="ends with .html or .md")
    parser.add_argument("--title", default="Findings", metavar="T", help="the report's title")
    parser.add_argument("--about", default="", metavar="A", help="a paragraph below the title")
    parser.add_argument("--only", nargs="+", default=(), metavar="ID", help="only findings whose id begins so")
    parser.set_defaults(run=_report)


def _report(asked: argparse.Namespace) -> int:
    findings = verifying.read_findings(asked.file, asked.only)
    file = report.write(asked.out, findings, title=asked.title, about=asked.about)
    _say(f"{file}: {len(findings)} findings, {file.stat().st_size / 1e6:.1f} MB")
    return HOLDS


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()  # a finding can take minutes: each is shown when it is done


if __name__ == "__main__":
    disable_progress_bar()  # of weights being read: what is told on stderr is errors
    sys.exit(main())
