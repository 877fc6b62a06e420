"""Reports of ten findings: complete, inert whatever stands in them, and with lines that give the same numbers again."""

import base64
import hashlib
import json
import os
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import plotly.io
import pytest
from reported import CASES, HOSTILE, SHORT, ten

from attnviz import findings, report
from attnviz.__main__ import main
from attnviz.errors import InputError
from attnviz.findings import Evidence, Finding, Measurement, ModelRecord, Outcome, Seen
from attnviz.report import web
from attnviz.report.blocks import Picture, shown
from attnviz.report.drawing import values_of

KNOWN = {
    "html",
    "head",
    "meta",
    "title",
    "style",
    "body",
    "h1",
    "h2",
    "h3",
    "p",
    "nav",
    "ol",
    "li",
    "a",
    "span",
    "table",
}
KNOWN |= {"thead", "tbody", "tr", "th", "td", "pre", "details", "summary", "code", "figure", "div", "figcaption"}
KNOWN |= {"script"}


@dataclass
class Page(HTMLParser):
    """What a browser finds in a document."""

    tags: list[str] = field(default_factory=list)
    attributes: list[tuple[str, str | None]] = field(default_factory=list)
    scripts: dict[str, list[str]] = field(default_factory=dict)
    codes: list[str] = field(default_factory=list)
    words: str = ""

    def __post_init__(self) -> None:
        super().__init__()
        self.within = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self.within = tag
        if tag == "script":
            self.kind = dict(attrs).get("type") or "program"
            self.scripts.setdefault(self.kind, []).append("")
        if tag == "code":
            self.codes.append("")

    def handle_endtag(self, tag: str) -> None:
        self.within = ""

    def handle_data(self, data: str) -> None:
        if self.within == "script":
            self.scripts[self.kind][-1] += data
        elif self.within == "code":
            self.codes[-1] += data
        elif self.within != "style":
            self.words += data


@pytest.fixture(scope="module")
def written() -> str:
    return report.html(ten(), title=f"Ten {SHORT}", about=HOSTILE)


@pytest.fixture(scope="module")
def page(written: str) -> Page:
    found = Page()
    found.feed(written)
    found.close()
    return found


def test_a_stranger_s_words_are_words(page: Page) -> None:
    assert set(page.tags) <= KNOWN
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in ("src", "style")]
    assert all((value or "").startswith("#finding-") for name, value in page.attributes if name == "href")
    assert page.words.count(shown(HOSTILE)) >= 5
    assert "\u202e" not in page.words
    names = [value for name, value in page.attributes if name == "id"]
    assert len(names) == len(set(names))


def test_the_policy_forbids_requests_and_names_the_two_programs_by_their_hashes(page: Page) -> None:
    policy = next(value for name, value in page.attributes if name == "content" and "default-src" in (value or ""))
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy.partition("style-src")[0]
    assert "http" not in policy
    programs = page.scripts["program"]
    hashes = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in programs]
    assert re.findall(r"'sha256-([^']+)'", policy) == hashes
    assert len(programs) == 2


def test_a_figure_s_text_cannot_end_its_element(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plotly.io, "to_json", lambda figure, **options: '{"a": "</script><b>\u2028"}')
    text = web._picture(Picture(lambda theme: go.Figure(), "below"), "figure-1")
    found = Page()
    found.feed(text)
    assert found.tags == ["figure", "div", "figcaption", "script"]
    told = json.loads(found.scripts["application/json"][0])
    assert told == {theme: {"a": "</script><b>\u2028"} for theme in ("light", "dark")}


def test_all_of_a_finding_stands_in_it(page: Page) -> None:
    for finding in ten():
        assert finding.id in page.words
        assert finding.status in page.words
        assert shown(finding.claim) in page.words
        assert finding.model.fingerprint in page.words
        for evidence in finding.evidence:
            assert shown(evidence.outcome.words) in page.words
            assert all(f"{value:.6g}" in page.words for value in evidence.outcome.values if value is not None)
            assert all(shown(case.text) in page.words for case in evidence.cases)
    assert "what was planned beforehand was measured" in page.words
    assert "the whole interval below 0.3, or wholly within the control" in page.words
    assert "11, 3 controls asked for" in page.words
    pictures = sum(len(one.evidence) for one in ten()) + sum(bool(one.figure) for one in ten())
    assert len(page.scripts["application/json"]) == page.tags.count("figure") == pictures == 10


def test_its_lines_run_and_give_the_same_numbers(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(go.Figure, "show", lambda self: None)
    made = [run(lines) for lines in page.codes]
    measured = [evidence for finding in ten() for evidence in finding.evidence]
    again = [one["outcome"] for one in made if "outcome" in one]
    assert len(again) == len(measured) == 9
    for evidence, now in zip(measured, again, strict=True):
        assert now.values == pytest.approx(evidence.outcome.values, abs=1e-5)
        assert now.control == pytest.approx(evidence.outcome.control, abs=1e-5)
        assert now.words == evidence.outcome.words
    (kept,) = [one["figure"] for one in made if "outcome" not in one]
    then = plotly.io.from_json(next(one.figure for one in ten() if one.figure))
    assert values_of(kept) == values_of(then)
    assert all(isinstance(one["figure"], go.Figure) for one in made)


def test_every_kind_of_evidence_is_in_it_and_what_counts_is_what_verify_counts(page: Page) -> None:
    measurements = [evidence.measurement for finding in ten() for evidence in finding.evidence]
    assert {one.kind for one in measurements} == set(findings.KINDS)
    assert {one.how for one in measurements if one.kind == "ablation"} == {"resample", "mean", "zero"}
    told = re.findall(r"counts(the status rests|as it was planned|no status rests|beside the plan)", page.words)
    verified = [one is findings.rests_on(finding) for finding in ten() for one in finding.evidence]
    assert [words == "the status rests" for words in told] == verified
    assert sum(verified) == 2


def test_evidence_that_no_status_rests_on_is_not_said_to_count() -> None:
    found = next(one for one in ten() if one.status == "supported")
    seen = Seen(texts={"text": found.evidence[0].cases[0].text})
    open_one = found.model_copy(update={"status": "hypothesis"})
    for one, said in (
        (found, "the status rests on it: "),
        (open_one, "as it was planned; no status rests on it now"),
        (open_one.model_copy(update={"seen": seen}), "no status rests on it: no control, a text that was seen before"),
    ):
        assert re.findall(r"\| counts \| (.*?) \|", report.markdown([one]))[0].startswith(said)


def test_lines_fail_where_a_number_is_another(page: Page) -> None:
    lines = next(one for one in page.codes if 'kind="detector"' in one)
    number = re.search(r"then = \(\s*([0-9.]+)", lines)
    assert number is not None
    with pytest.raises(AssertionError, match=r"now, .* then"):
        run(lines.replace(number[1], str(float(number[1]) + 1e-3)))
    with pytest.raises(AssertionError, match="other weights"):
        run(lines.replace(ten()[0].model.fingerprint, "0" * 16))


def test_markdown_says_the_same_and_means_nothing_else(page: Page) -> None:
    text = report.markdown(ten(), title=f"Ten {SHORT}", about=HOSTILE)
    blocks = re.findall(r"^(`{3,})python\n(.*?)\n\1$", text, re.MULTILINE | re.DOTALL)
    assert [lines + "\n" for _, lines in blocks] == page.codes
    outside = re.sub(r"^(`{3,})\w+\n.*?\n\1$", "", text, flags=re.MULTILINE | re.DOTALL)
    assert set(re.findall(r"<[^>]*>", outside)) == {f'<a id="finding-{number}">' for number in range(1, 11)} | {"</a>"}
    assert set(re.findall(r"(?<!\\)\]\(([^)]*)\)", outside)) == {f"#finding-{number}" for number in range(1, 11)}
    assert "https://" not in outside
    assert not re.search(r"(?<!\\)`|^# out", outside, re.MULTILINE)
    assert "<script" not in text.replace("</script></pre>", "").replace(SHORT[:9], "")
    widths = [
        [len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()]
        for table in re.findall(r"(?:^\|.*\n)+", outside, re.MULTILINE)
    ]
    assert len(widths) > 20
    assert all(len(set(table)) == 1 for table in widths)
    assert "Plotly" not in text


def test_nothing_private_is_told() -> None:
    folder = ModelRecord(name="/home/ada/models/mine", revision="local folder", device="cuda:1", dtype="float16")
    kept = Evidence(
        measurement=Measurement(kind="flow", what="rollout"),
        cases=CASES[:1],
        outcome=Outcome(values=(0.5,), mean=0.5, words="Opened from /home/ada/models/mine."),
        model=folder,
        by="bob@example.org",
    )
    finding = Finding(
        claim="Said of a folder",
        author="ada@example.org",
        model=folder,
        seen=Seen(
            params={
                "model": "/home/ada/models/mine",
                "layer": "3",
                "second": "Xk3k2jd8fjw09d2jdkw0",
                "api_key": "hf_x",
            },
            lines='model = attnviz.load_model("/home/ada/models/mine")',
        ),
        figure=go.Figure(layout={"title": {"text": "/home/ada/models/mine · float16"}}).to_json(),
        evidence=(kept,),
    )
    for written in (report.html([finding]), report.markdown([finding])):
        told = written.replace(web._plotly(), "")
        assert "/home" not in told
        assert "home\\u002f" not in told
        assert not re.search(r"Xk3k2|hf_x|bob\\?@", told)
        assert re.search(r"ada\\?@example.org", told)
        assert "mine" in told
        assert "setting: layer" in told
    assert 'load_model("mine", device="cuda", dtype="float16")' in report.markdown([finding])


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, start in (("a.html", "<!DOCTYPE html>"), ("a.md", "# Findings")):
        file = tmp_path / name
        file.write_text("before", "utf-8")
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(InputError, match="No space left"):
                report.write(file, ten()[-1:])
        assert file.read_text("utf-8") == "before"
        assert report.write(file, ten()[-1:]) == file
        assert file.read_text("utf-8").startswith(start)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.html", "a.md"]
    with pytest.raises(InputError, match=r"ends with \.html"):
        report.write(tmp_path / "a.pdf", ten()[-1:])
    with pytest.raises(InputError, match="cannot be written"):
        report.write(tmp_path / "none" / "a.md", ten()[-1:])


def test_the_command_writes_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = tmp_path / "findings.jsonl", tmp_path / "report.md"
    source.write_text(findings.to_lines(ten()), "utf-8")
    command = ["report", str(source), "--out", str(out), "--title", "Ours"]
    assert main(command) == 0
    assert "10 findings" in capsys.readouterr().out
    assert out.read_text("utf-8").startswith("# Ours\n")
    assert main([*command, "--only", ten()[0].id]) == 0
    assert ten()[1].id not in out.read_text("utf-8")
    assert main(["report", str(source), "--out", str(tmp_path / "a.docx")]) == 2
    assert "ends with .html" in capsys.readouterr().err


def test_too_much_for_a_report_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for many in ([], list(ten()) * 21):
        with pytest.raises(InputError, match="1 to 200 findings"):
            report.html(many)
        with pytest.raises(InputError, match="1 to 200 findings"):
            report.markdown(many)
    monkeypatch.setattr(web, "MOST_BYTES", 10_000)
    with pytest.raises(InputError, match="choose fewer"):
        report.html(ten())


def full(_: int) -> None:
    raise OSError(28, "No space left on device")


def run(lines: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    exec(compile(lines, "<a report's lines>", "exec"), found)
    return found
