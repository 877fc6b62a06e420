"""Every public entry point of AttnViz with made-up inputs: ENTRIES, a strategy of calls by the name of the entry.

What comes out of any of them is a result or an AttnvizError; pydantic's ValidationError only where the caller makes a
record of findings with it.
"""

from __future__ import annotations

import io
import json

import asking
import numpy as np
import odd
import pydantic
import torch
from asking import Entry, anywhere, file_of, json_like, mangled, method, plain, several, stored, worded
from hypothesis import strategies as st
from odd import COUNTS, FLOATS, NUMBERS, TENSORS, TEXT, Call, calls, mostly
from reported import ten

import attnviz
from attnviz import (
    ablation,
    compare,
    corpus,
    edits,
    export,
    figures,
    findings,
    flow,
    gates,
    generated,
    heads,
    human,
    metrics,
    report,
    settings,
    steering,
    store,
)
from attnviz import feedback as said
from attnviz import lines as edge_lines
from attnviz import overview as overviews
from attnviz import products as product_maps
from attnviz.errors import AttnvizError
from attnviz.flow import scoring
from attnviz.ui import drafts, selection
from attnviz.ui.feedback import Said
from attnviz.ui.gates.course import Course
from attnviz.ui.gaze.draft import Gaze
from attnviz.ui.highlights.study import Study
from attnviz.ui.session import DRAFTS
from attnviz.ui.steering.plan import Plan

GOOD = ablation.Case("The dog saw the cat.", "The cat saw the dog.", "a", "the")
CASES = json.dumps({"clean": "Mary went", "corrupted": "Bob went", "answer": " Mary", "foil": " Bob"}).encode()
EXAMPLES = json.dumps({"text": "Mary went", "emphasis": "Mary", "answer": " a", "foil": " b"}).encode()
FEEDBACK = said.to_lines([said.Feedback("Mary went", "prediction", "down", wanted=" home")])
GAZE = b"sentence_id,word,TRT,reader\n1,The,200,a\n1,dog,0,a\n1,saw,,a\n2,A,1.5,b\n"
TABLE = b'text,label,pair\n"The dog, saw",a,b\nA cat,b,c\n'
FINDING = st.deferred(lambda: st.sampled_from(ten()))
_FINDING = st.deferred(lambda: json_like(ten()[2].model_dump_json()))
_FINDING_LINES = st.deferred(lambda: json_like(findings.to_lines(ten()[2:4])))
BY = TEXT | st.just("ann")
PARAMS = st.dictionaries(
    st.sampled_from(sorted(selection.Selection().__dataclass_fields__)),
    TEXT
    | st.from_regex(r"[0-9]{1,7}([.-][0-9]{1,7}){0,3}|(L[0-9]{1,5}H[0-9]{1,5}\.?){1,3}|[a-z]{1,8}", fullmatch=True),
    max_size=5,
)
FILES = {
    "source": mangled(TABLE),
    "kind": st.none() | st.sampled_from(["txt", "csv", "tsv", "jsonl", "parquet"]) | TEXT,
}
DELIMITER = st.none() | st.sampled_from([",", ";", "\t", "", "\n", '"']) | st.text(max_size=2)
CASE = st.builds(Call, st.just(findings.Case), st.fixed_dictionaries({"text": st.just("3 May 2021")}, optional={
    "target": TEXT, "donor": TEXT, "answer": TEXT, "foil": TEXT, "query": TEXT, "key": TEXT | st.just("May"),
    "marks": st.lists(st.floats(0, 1), max_size=3)}))  # fmt: skip
_NAMES = {
    "ablation": findings.METRICS,
    "detector": findings.DETECTED,
    "flow": tuple(flow.METHODS),
    "agreement": human.METRICS,
}
_LEAST = {"flow": 0}


def _measurement(kind: str) -> st.SearchStrategy[Call]:
    least = _LEAST.get(kind, 1)
    head = st.builds(findings.HeadAt, layer=st.integers(0, 1), head=st.integers(0, 3), site=SITE)
    return st.fixed_dictionaries({
        "kind": st.just(kind), "what": mostly(st.sampled_from((*_NAMES.get(kind, ()), "")), TEXT),
        "heads": st.lists(head, min_size=least, max_size=2 * least),
        "n_controls": st.integers(1, 3), "how": st.sampled_from(["zero", "mean", "resample"]),
    }).map(lambda given: Call(findings.Measurement, given))  # fmt: skip


SITE = mostly(st.none(), st.sampled_from(["encoder", "cross"]))
MEASUREMENT = st.sampled_from(findings.KINDS).flatmap(_measurement)
_ANY = odd.arrays() | TENSORS | st.lists(FLOATS, max_size=6)
SCORES = mostly(st.lists(FLOATS, min_size=4, max_size=4), _ANY)
MARKS = mostly(st.lists(st.floats(0, 1), min_size=4, max_size=4), _ANY)
SQUARES = NUMBERS | st.integers(2, 4).map(lambda n: 1 - np.eye(n)) | st.integers(2, 4).map(lambda n: np.eye(n) * np.nan)
VALUES = st.sampled_from([1.0, 0.0, np.nan, np.inf, -1.0]).map(
    lambda by: np.random.default_rng(0).random((2, len(heads.DETECTORS), 2, 3)).astype(np.float32) * np.float32(by)
)
RECORDS = ("findings.measure", "findings.Finding")  # the caller makes records, so pydantic may speak
_DRAFTS: dict[str, type[drafts.Draft]] = {
    "study": Study,
    "gaze": Gaze,
    "course": Course,
    "plan": Plan,
    "feedback": Said,
}
_RESULT = st.builds(
    corpus.Result,
    st.integers(0, 3),
    TEXT,
    mostly(VALUES, odd.arrays()),
    mostly(VALUES.map(lambda x: x[..., 0]), odd.arrays()),
)
_RESULTS = {"results": st.lists(_RESULT, min_size=1, max_size=3), "choice": st.builds(Call, st.just(corpus.Choice),
    st.fixed_dictionaries({}, optional={"detector": mostly(st.just("previous"), TEXT),
        "variant": mostly(st.just("with sink"), TEXT)}))}  # fmt: skip

ENTRIES: dict[str, Entry] = {
    "load_model": plain(attnviz.load_model, name=TEXT | st.sampled_from(["dates", "minilm", "no/such", "/", ".", "~",
        "\0"]),
                        device=mostly(st.just("cpu"), TEXT), dtype=mostly(st.just("float32"), TEXT)),
    "wrap_model": st.one_of(
        plain(attnviz.wrap_model, hf_model=st.sampled_from([None, torch.nn.Linear(2, 2), "gpt2", 3])),
        plain(asking.wrapped, kind=st.sampled_from(["gpt2", "bert", "sinks"]))),
    "record": plain(lambda hf_model: attnviz.record(hf_model).__enter__(), hf_model=st.sampled_from([None, 3, "gpt2"])),
    "load_trace": plain(attnviz.load_trace, path=file_of(st.deferred(lambda: mangled(asking.saved_trace())))),
    "Head": plain(attnviz.Head, layer=st.integers(), head=st.integers(), site=st.none() | TEXT),
    **{f"Model.{each.__name__}": method(each, "model") for each in (
        attnviz.Model.trace, attnviz.Model.generate, attnviz.Model.measure,  attnviz.Model.encode,
        attnviz.Model.ids_of, attnviz.Model.check_edits)},
    **{f"Trace.{each.__name__}": method(each, "trace") for each in (
        attnviz.Trace.pattern, attnviz.Trace.patterns, attnviz.Trace.axes, attnviz.Trace.texts, attnviz.Trace.layers,
        attnviz.Trace.layer, attnviz.Trace.row, attnviz.Trace.predictions, attnviz.Trace.compact, attnviz.Trace.save)},
    "Model.embed": anywhere(
        attnviz.Model.embed, lambda values: {"self": values["model"]}, st.sampled_from(["minilm", "worded"])
    ),
    "edits": anywhere(attnviz.Model.trace, lambda values: {"self": values["model"], "edits": values["some_edits"]}),
    "edits.checked": anywhere(edits.checked),
    "ablation.read_cases": plain(ablation.read_cases, path=file_of(mangled(CASES), ".jsonl")),
    **{f"ablation.{each.__name__}": anywhere(each, asking.ablated) for each in (ablation.sweep, ablation.screen,
                                                                        ablation.pieces)},
    **{f"ablation.{each.__name__}": worded(each) for each in (
        ablation.over_texts, ablation.propose_donor, ablation.random_sets, ablation.bake,
        ablation.take_out)},
    "ablation.interaction": worded(ablation.interaction, lambda values: {
        "heads": st.lists(values["head"], min_size=2, max_size=3)}),
    "ablation.table": worded(ablation.table, lambda values: {
        "heads": st.lists(values["heads"], min_size=1, max_size=2), "texts": values["texts"],
        "hows": mostly(st.sampled_from([("zero",), ("zero", "resample")]), values["hows"])}),
    "ablation.donors": worded(ablation.donors, lambda values: {"case": mostly(st.just(GOOD), values["case"]),
        "heads": st.lists(values["heads"], max_size=2), "texts": st.lists(TEXT | st.just("The cat saw the dog."),
            min_size=1, max_size=2)}),
    "ablation.propose_foil": worded(ablation.propose_foil, lambda values: {"answer": TEXT | st.just("2")}),
    "ablation.curve": worded(ablation.curve, lambda values: {
        "order": mostly(st.just("screen"), TEXT), "references": values["texts"], "steps": mostly(st.just(2), COUNTS),
        "metric": mostly(st.just(metrics.Loss()), values["metric"]), "texts": values["texts"]}),
    "compare.alignments": anywhere(compare.alignments, asking.two_traces),
    "compare.divergence": anywhere(compare.divergence, asking.two_traces),
    "compare.head_difference": anywhere(compare.head_difference, asking.two_heads),
    "compare.nearest_heads": anywhere(compare.nearest_heads, asking.two_traces),
    "corpus.read": plain(asking.read_corpus, **FILES, delimiter=DELIMITER, text=st.none() | TEXT,
        most=st.none() | COUNTS),
    "corpus.inspect": plain(corpus.inspect, **FILES, delimiter=DELIMITER),
    "corpus.benjamini_hochberg": plain(corpus.benjamini_hochberg, p=NUMBERS),
    "corpus.by_label": plain(corpus.by_label, **_RESULTS, level=st.floats(0, 1) | FLOATS, replicates=st.integers(-1,
        9)),
    "corpus.outliers": plain(corpus.outliers, **_RESULTS, head=st.builds(attnviz.Head, st.integers(0, 3), st.just(0))),
    "corpus.compare": plain(corpus.compare, a=st.lists(_RESULT, min_size=2, max_size=4), b=st.lists(_RESULT,
        min_size=2, max_size=4), choice=_RESULTS["choice"]),
    "export": st.one_of(
        *(plain(each, frame=odd.FRAMES) for each in (export.csv, export.json, export.parquet)),
        anywhere(export.about), anywhere(export.html),
        plain(export.heads_frame, scores=st.dictionaries(TEXT, odd.arrays(), max_size=2))),
    "feedback.of_lines": plain(said.of_lines, text=json_like(FEEDBACK)),
    "feedback.read": plain(said.read, path=file_of(mangled(FEEDBACK.encode()))),
    "figures.attention_map": anywhere(figures.attention_map),
    "figures.attention_row": anywhere(figures.attention_row),
    "figures.attention_lines": anywhere(figures.attention_lines, lambda values: {
        "edges": calls(edge_lines.strongest_edges, values)}),
    "figures.movement_map": anywhere(figures.movement_map, asking.writing),
    "figures.head_grid": anywhere(figures.head_grid, lambda values: {
        "scores": odd.arrays() | TENSORS.map(lambda x: x.numpy()),
            "info": values["model"].map(lambda each: each.info)}),
    "figures.head_gallery": anywhere(figures.head_gallery, lambda values: {
        "overview": calls(overviews.overview, values)}),
    "figures.difference_map": anywhere(figures.difference_map, asking.two_heads),
    "figures.divergence_grid": anywhere(figures.divergence_grid, lambda values: {
        **asking.two_traces(values), "scores": calls(compare.divergence, values,
            **asking.two_traces(values)) | odd.arrays()}),
    "figures.product_map": anywhere(figures.product_map, lambda values: {
        "products": calls(product_maps.query_key, values), "keys": st.none() | st.lists(COUNTS, max_size=3)}),
    "figures.bars": plain(figures.bars, labels=st.just(["a", "b", "c", "d"]) | st.lists(TEXT, max_size=4),
        methods=st.dictionaries(TEXT, SCORES, min_size=1, max_size=2)),
    "figures.agreement_map": plain(figures.agreement_map, table=odd.FRAMES | plain(scoring.table,
        scores=st.dictionaries(TEXT, st.lists(FLOATS, min_size=3, max_size=3), min_size=2))),
    "findings.of_lines": plain(findings.of_lines, text=_FINDING_LINES),
    "findings.measure": worded(findings.measure, lambda values: {
        "measurement": MEASUREMENT, "cases": st.lists(CASE, min_size=1, max_size=3), "plan": st.none()}),
    "findings.with_status": plain(findings.with_status, finding=FINDING, status=st.sampled_from(findings.STATUSES)),
    "findings.reworded": plain(findings.reworded, finding=FINDING,
                               changes=st.dictionaries(st.sampled_from(["claim", "heads", "note"]), TEXT, max_size=2)),
    "findings.Finding": plain(asking.finding_of, text=_FINDING),
    "flow.rollout": anywhere(flow.rollout, lambda values: {"patterns": values["trace"] | NUMBERS}),
    "flow.max_flow": anywhere(flow.max_flow, lambda values: {"patterns": values["trace"] | NUMBERS}),
    "flow.steps": anywhere(flow.steps, lambda values: {"name": mostly(st.sampled_from(sorted(flow.METHODS)), TEXT)}),
    "flow.trace_down": anywhere(asking.traced_down),
    "flow.explain": anywhere(flow.explain, lambda values: {"target": values["aim_target"], "run": st.none()}),
    "flow.yardstick": anywhere(flow.yardstick, lambda values: {
        "neutral": st.none() | TEXT | COUNTS, "words": st.none() | st.lists(st.integers() | TEXT, max_size=3)}),
    "flow.take_apart": anywhere(flow.take_apart),
    "flow.information_flow_routes": anywhere(flow.information_flow_routes),
    "flow.attribution": anywhere(flow.attribution),
    "flow.lens": anywhere(flow.lens, lambda values: {"answer": st.none() | st.integers(0, 99) | COUNTS}),
    "flow.edge_logits": anywhere(flow.edge_logits),
    "flow.promotes": anywhere(flow.promotes, lambda values: {"head": COUNTS}),
    "flow.scoring": st.one_of(plain(scoring.agreement, a=NUMBERS, b=NUMBERS),
                              plain(scoring.table, scores=st.dictionaries(TEXT, NUMBERS, max_size=3))),
    "gates.learn": worded(gates.learn, lambda values: {
        "examples": st.lists(st.tuples(values["text"], TEXT) | values["case"] | TEXT, min_size=2, max_size=4),
            "lr": mostly(st.just(0.1), FLOATS),
        "penalty": mostly(st.just("l2"), TEXT), "steps": st.integers(-1, 2)}),
    "gates.Gates.load": plain(gates.Gates.load, path=file_of(st.deferred(lambda: mangled(asking.saved_gates())))),
    "generated": st.one_of(*(anywhere(each, asking.writing) for each in (
        generated.writers, generated.steps, generated.movement, generated.movement_frame, generated.shift))),
    **{f"heads.{each.__name__}": anywhere(each) for each in (
        heads.scores, heads.entropy, heads.distance, heads.previous_token, heads.sink_mass, heads.attention_between,
        heads.detect, heads.repeats, heads.induction, heads.copy_scores)},
    "heads.position_only": anywhere(heads.position_only, several("traces", "trace")),
    "heads.pattern_distance": anywhere(heads.pattern_distance, several("traces", "trace")),
    "heads.output_similarity": anywhere(heads.output_similarity, several("runs", "run")),
    "heads.places": plain(heads.places, distance=SQUARES),
    "heads.ordered": plain(heads.ordered, distance=SQUARES),
    "heads.labels": plain(heads.labels, values=VALUES | NUMBERS, chance=VALUES.map(lambda x: x[..., 0]) | NUMBERS,
        threshold=FLOATS),
    "human.agreement": plain(human.agreement, scores=SCORES, human=MARKS),
    "human.agreements": plain(human.agreements, scores=SCORES.map(asking.two_rows), human=MARKS),
    "human.band": plain(human.band, scores=SCORES.map(asking.two_rows), human=MARKS, metric=mostly(st.just("auroc"),
        TEXT), n=COUNTS),
    "human.align": worded(human.align, lambda values: {
        "tokens": values["trace"], "text": st.none() | TEXT, "words": st.lists(TEXT, max_size=4)}),
    "human.word_scores": anywhere(human.word_scores, lambda values: {"words": st.none()}),
    "human.candidates": worded(human.candidates),
    "human.faithful": worded(asking.faithful_to),
    "human.rank": worded(human.rank, lambda values: {
        "marked": st.lists(values["marked"], min_size=1, max_size=3), "metric": mostly(st.just("auroc"), TEXT),
        "held": st.none() | st.lists(st.integers(-1, 3), max_size=2)}),
    "human.read_gaze": st.one_of(plain(human.read_gaze, source=mangled(GAZE).map(io.BytesIO)),
                                 plain(human.read_gaze, source=mangled(GAZE)), plain(human.read_gaze,
                                 source=odd.FRAMES)),
    "human.guess_columns": plain(human.guess_columns, names=st.just(["sentence_id", "word", "TRT"]) |
                                st.lists(TEXT | st.sampled_from(["word", "TRT",
        "sentence", "reader"]), max_size=7)),
    "lines.strongest_edges": anywhere(edge_lines.strongest_edges),
    "overview.overview": anywhere(overviews.overview),
    "products.query_key": anywhere(product_maps.query_key),
    "report.html": plain(report.html, findings=st.lists(FINDING, max_size=2), title=TEXT, about=TEXT),
    "report.markdown": plain(report.markdown, findings=st.lists(FINDING, max_size=2), title=TEXT, about=TEXT),
    "steering.profile": worded(steering.profile),
    "steering.moved": anywhere(steering.moved, asking.moved),
    "steering.went": anywhere(steering.went, asking.moved),
    "steering.tokens_of": anywhere(steering.tokens_of, lambda values: {"run": values["trace"]}),
    "steering.read_examples": plain(steering.read_examples, path=file_of(mangled(EXAMPLES), ".jsonl")),
    "store.open_store": plain(store.open_store,
        url=TEXT | st.sampled_from([f"sqlite:///{odd.FOLDER / 'other.sqlite'}", f"sqlite:///{odd.FOLDER}",
            "sqlite://", "sqlite:////", "mysql://a@b/c"])),
    "store.find": stored("find", by=BY, text=TEXT, label=st.none() | TEXT, status=st.none() | TEXT, limit=COUNTS,
                          offset=COUNTS, head=st.none() | st.builds(attnviz.Head, st.integers(0), st.integers(0))),
    "store.save": stored("save", finding=FINDING, by=BY, base=st.none() | COUNTS),
    "store.briefs": stored("briefs", by=BY, text=TEXT, limit=COUNTS, owner=st.none() | TEXT),
    "store.several": stored("several", ids=st.lists(TEXT), by=BY),
    "store.get": stored("get", finding=TEXT | FINDING.map(lambda one: one.id), by=BY),
    "store.raw": stored("raw", finding=TEXT | FINDING.map(lambda one: one.id), by=BY),
    "store.delete": stored("delete", finding=TEXT | FINDING.map(lambda one: one.id), by=BY),
    "store.label": stored("label", finding=TEXT | FINDING.map(lambda one: one.id), by=BY,
                           labels=st.lists(TEXT, max_size=2), confidence=st.none() | FLOATS),
    "store.import_findings": stored("import_findings", data=_FINDING_LINES, by=BY,
                                     as_csv=st.booleans()),
    "store.export_findings": stored("export_findings", by=BY, ids=st.none() | st.lists(TEXT), as_csv=st.booleans()),
    "settings": plain(asking.settings_from, given=st.dictionaries(
        st.sampled_from([f"ATTNVIZ_{name}".upper() for name in settings.Settings.model_fields] + ["ATTNVIZ_NONE"]),
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=9) | FLOATS.map(str),
        min_size=1, max_size=2)),
    "Selection.from_params": plain(asking.selection_of, params=PARAMS),
    **{f"draft: {name}": plain(asking.draft_of, kind=st.just(kind), name=st.just(name),
        text=json_like(kind().model_dump_json()))
       for name, kind in _DRAFTS.items()},
}  # fmt: skip
assert set(_DRAFTS) == set(DRAFTS)


def came_of(name: str, call: Call) -> str:
    """What came of a call of this entry: "result" or "error"; whatever else it raises is a bug, and comes through."""
    try:
        call()
    except AttnvizError:
        return "error"
    except pydantic.ValidationError:
        if name not in RECORDS:
            raise
        return "error"
    return "result"
