"""Claims as tests: `python -m attnviz verify` on the model of the findings, and on one with heads cut out."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import attnviz
from attnviz import Model, findings
from attnviz.__main__ import main
from attnviz.errors import InputError
from attnviz.findings import Case, Evidence, Finding, HeadAt, Measurement, Plan

ROOT = Path(__file__).parents[2]
STRONG = (("cross", 1, 0), ("cross", 1, 2), ("cross", 1, 3), ("encoder", 1, 2))
WEAK = (("cross", 0, 1), ("decoder", 0, 3))


@pytest.fixture(scope="module")
def dates() -> Model:
    return attnviz.load_model("dates", device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def exported(dates: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A supported finding, a refuted one, and a hypothesis with evidence."""
    rows = [line.split("\t") for line in (ROOT / "assets/dates/dates.tsv").read_text("utf-8").splitlines()[:6]]
    cases = tuple(Case(text=written, target=iso) for written, iso in rows)
    made = [finding(dates, heads, cases) for heads in (STRONG, WEAK)]
    made = [findings.with_status(one, status) for one, status in zip(made, ("supported", "refuted"), strict=True)]
    asked = Measurement(kind="attention", heads=(HeadAt(layer=0, head=0, site="encoder"),))
    case = (Case(text="Jun 12, 1918", target="1918-06-12", query="1918", key="Jun"),)
    beside = Evidence(
        measurement=asked,
        cases=case,
        outcome=findings.measure(dates, asked, case),
        model=findings.model_record(dates),
    )
    made.append(findings.attach(Finding(claim="\x1b[31ma guess", model=beside.model), beside))
    path = tmp_path_factory.mktemp("exported") / "findings.jsonl"
    path.write_text(findings.to_lines(made), "utf-8")
    return path


def finding(model: Model, heads: tuple[tuple[str, int, int], ...], cases: tuple[Case, ...]) -> Finding:
    named = tuple(HeadAt(site=site, layer=layer, head=head) for site, layer, head in heads)
    asked = Measurement(kind="ablation", what="loss", how="zero", heads=named)
    plan = Plan(measurement=asked, cases=cases, bound=0.3, refuted_by="a loss that hardly moves")
    record = findings.model_record(model)
    stated = findings.planned(Finding(claim=f"{len(heads)} heads are needed", heads=named, model=record), plan)
    made = findings.measure(model, asked, cases, plan=plan)
    return findings.attach(stated, Evidence(measurement=asked, cases=cases, outcome=made, model=record))


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model without what the strong heads write."""
    model = attnviz.load_model("dates", device="cpu", dtype="float32")
    width = model.info.d_head
    with torch.no_grad():
        for site, layer, head in STRONG:
            side = model.hf_model.model.encoder if site == "encoder" else model.hf_model.model.decoder
            block = side.layers[layer].self_attn if site == "encoder" else side.layers[layer].encoder_attn
            block.out_proj.weight[:, head * width : (head + 1) * width] = 0
    folder = tmp_path_factory.mktemp("cut") / "dates"
    model.hf_model.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return folder


def test_the_model_itself_verifies_as_a_program(exported: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    command = [sys.executable, "-m", "attnviz", "verify", str(exported), "--model", "dates", "--device", "cpu"]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--json", str(out)], cwd=ROOT, env=one_thread, capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 of 2 counted findings still hold." in done.stdout
    assert "(holds; not counted)" in done.stdout
    assert "\x1b" not in done.stdout
    read = json.loads(out.read_text("utf-8"))
    assert [one["holds"] for one in read["findings"]] == [True, True, None]
    assert all(one["evidence"][0]["difference"] == pytest.approx(0, abs=1e-6) for one in read["findings"])


def test_a_model_without_the_heads_no_longer_supports_the_claim(
    exported: Path, cut: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(exported), "--model", str(cut), "--device", "cpu"]) == 1
    told = capsys.readouterr().out
    assert "1 of 2 counted findings still hold." in told
    assert "no longer" in told
    assert "still “holds” by its plan, now “fails”" in told
    assert "Not as it was: weights " in told


def test_only_some_findings_and_all_evidence(exported: Path, cut: Path, capsys: pytest.CaptureFixture[str]) -> None:
    strong, weak, guess = findings.of_lines(exported.read_text("utf-8"))
    assert main(["verify", str(exported), "--model", str(cut), "--device", "cpu", "--only", weak.id[:12]]) == 0
    assert strong.id[:8] not in capsys.readouterr().out
    assert main(["verify", str(exported), "--model", "no/such model", "--only", guess.id]) == 2
    assert "nothing to verify: none of these findings is supported or refuted" in capsys.readouterr().err
    assert main(["verify", str(exported), "--model", "dates", "--device", "cpu", "--only", guess.id, "--all"]) == 0
    assert "1 of 1 counted" in capsys.readouterr().out


def test_what_cannot_be_measured_does_not_hold(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(exported), "--model", "minilm", "--device", "cpu"]) == 1
    assert "cannot be measured" in capsys.readouterr().out


def test_a_claim_that_is_measured_on_fewer_texts_does_not_hold(
    exported: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The mean of those that are left may hold; it is another claim."""
    read = Model.measure

    def all_but_the_last(self: Model, metric: Any, text: str, **options: Any) -> float:
        if text == last.text:
            raise InputError("this one is too long for it")
        return float(read(self, metric, text, **options))

    (first, *_) = findings.of_lines(exported.read_text("utf-8"))
    last = first.evidence[0].cases[-1]
    monkeypatch.setattr(Model, "measure", all_but_the_last)
    arguments = ["verify", str(exported), "--model", "dates", "--device", "cpu", "--only", first.id]
    assert main(arguments) == 1
    told = capsys.readouterr().out
    assert "no longer on 5 of 6 texts" in told
    assert "1 of the 6 texts cannot be measured any more, so it does not hold" in told
    assert "now “holds”" in told


def test_bad_input_ends_with_two_and_a_sentence(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torn, empty = tmp_path / "torn.jsonl", tmp_path / "empty.jsonl"
    torn.write_text(exported.read_text("utf-8")[:-100], "utf-8")
    empty.write_text("", "utf-8")
    table = tmp_path / "findings.csv"
    table.write_text("id,json\n", "utf-8")
    for arguments, said in (
        ([str(torn), "--model", "dates"], "torn.jsonl, line 3"),
        ([str(empty), "--model", "dates"], "holds no finding"),
        ([str(tmp_path / "none.jsonl"), "--model", "dates"], "There is no file none.jsonl"),
        ([str(table), "--model", "dates"], "findings.csv is a table"),
        ([str(exported), "--model", "no/such model"], "There is no model"),
        ([str(exported), "--model", "dates", "--dtype", "int3"], "dtype is"),
        ([str(exported), "--model", "dates", "--only", "zz"], "begins with 'zz'"),
    ):
        assert main(["verify", *arguments]) == 2
        told = capsys.readouterr()
        assert told.err.startswith("attnviz: ")
        assert said in told.err
        assert "Traceback" not in told.err
    with pytest.raises(SystemExit) as caught:
        main([])
    assert caught.value.code == 2


def test_a_status_that_was_written_into_the_file_is_refused(exported: Path, tmp_path: Path) -> None:
    forged = tmp_path / "forged.jsonl"
    for line, change in ((2, {"status": "supported"}), (1, {"status": "supported"})):
        row = json.loads(exported.read_text("utf-8").splitlines()[line])
        row["evidence"][0]["outcome"]["verdict"] = "holds"
        forged.write_text(json.dumps({**row, **change}), "utf-8")
        assert main(["verify", str(forged), "--model", "dates"]) == 2


def test_a_file_of_guesses_is_no_test(exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "guesses.jsonl"
    guess = findings.of_lines(exported.read_text("utf-8"))[2]
    for one, options, said in ((guess, [], "--all counts"), (_bare(guess), ["--all"], "nothing was measured")):
        file.write_text(findings.to_lines([one]), "utf-8")
        assert main(["verify", str(file), "--model", "dates", *options]) == 2
        assert said in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["verify", "--help"])
    assert "no finding is counted" in capsys.readouterr().out


def _bare(one: Finding) -> Finding:
    return one.model_copy(update={"evidence": ()})
