"""Does AttnViz read and edit every model type of transformers right? Tiny random models, an oracle of its own.

    python benchmarks/architectures.py              run the sweep, compare it with architectures.json, print the table
    python benchmarks/architectures.py --write      the same, and write docs/MODELS.md and architectures.json
    python benchmarks/architectures.py --only jamba llama     these model types alone, nothing compared

The oracle never goes through the library: a copy of the model on its own eager attention, asked for its attentions,
says what patterns and logits are right; and a hook that zeroes one head's columns where they enter the output
projection (or the norm before it) says what an edit of that head does. That input is found by structure: it is the
module input, in or around the attention module, that equals the head outputs.

exact       patterns and logits within 1e-4 of eager's, the unedited trace bit-identical to the plain model, and an
            edit of one head in the first, middle and last layer of each site equal to the naive edit
view-only   patterns are the model's own returned attentions, and edits are refused
partial     as exact, but a site of an encoder-decoder is not shown; not counted as exact
refused     the library says that it cannot, and why
wrong       anything else that the library shows; like a crash, it fails the command
"""

from __future__ import annotations

import argparse
import copy
import datetime
import json
import re
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
import transformers  # noqa: E402
from torch import nn  # noqa: E402

import attnviz  # noqa: E402
from attnviz.edits import Edit, Head, ZeroHeads  # noqa: E402
from attnviz.errors import AttnvizError  # noqa: E402
from benchmarks import tiny  # noqa: E402

LIST = ROOT / "benchmarks" / "architectures.json"
TABLE = ROOT / "docs" / "MODELS.md"
TOLERANCE = 1e-4
# The families people use most: each must be exact in every mapping that has it, no exception.
MOST_USED = (
    *("gpt2", "llama", "qwen2", "qwen3", "mistral", "mixtral", "gemma2", "gemma3", "phi3", "olmo2", "gpt_oss"),
    *("gpt_neox", "opt", "bert", "roberta", "distilbert", "modernbert", "t5", "bart", "marian"),
)
# Runs in the tests: one pair for each thing that attention can do differently.
SAMPLE: dict[tuple[str, str], str] = {
    ("causal", "gpt2"): "heads without groups, learned positions",
    ("causal", "llama"): "grouped key/value heads",
    ("causal", "gpt_bigcode"): "one key/value head for all",
    ("causal", "deepseek_v3"): "latent attention: value heads narrower than query heads, a mixture of experts",
    ("causal", "deepseek_v32"): "keys chosen by an indexer, handed over beside the mask",
    ("causal", "mistral"): "a sliding window",
    ("causal", "llama4_text"): "chunked layers among full ones",
    ("causal", "gemma2"): "soft-capped scores, windows in every other layer",
    ("causal", "gpt_oss"): "sinks: rows that sum to less than 1",
    ("causal", "mixtral"): "a mixture of experts",
    ("causal", "jamba"): "layers without attention before, between and after those with it",
    ("causal", "qwen3_next"): "linear layers, and a gate before the output projection",
    ("causal", "bitnet"): "a norm before the output projection",
    ("causal", "minimax"): "linear layers that return their state as attentions",
    ("causal", "inkling_text"): "head counts that differ by layer, relative positions",
    ("causal", "doge"): "a mask of its own, passed as a keyword",
    ("causal", "mpt"): "view-only: its own code, with ALiBi",
    ("causal", "deepseek_v4"): "refused: its keys are compressed, not the tokens",
    ("masked", "albert"): "one layer used four times",
    ("masked", "distilbert"): "modules without layer_idx",
    ("masked", "modernbert"): "local and global layers of an encoder",
    ("masked", "longformer"): "view-only: attentions returned as a band",
    ("masked", "squeezebert"): "refused: what it returns as attentions are scores",
    ("seq2seq", "t5"): "encoder, decoder and cross, relative position biases",
    ("seq2seq", "bart"): "encoder, decoder and cross, learned positions",
}
# (at least, of): the goals, for pairs with transformers' attention interface and for the others with attentions.
EXACT_GOAL, VIEW_GOAL = (138, 146), (25, 31)
BAD = ("wrong", "crash")
NOT_AT_PROJECTION = "no single module takes the heads' outputs; the naive edit is made at the eager function's return"
PARTIAL = "its local attention returns blocks, not [query, key]; the other sites are exact"
_SITES = ("encoder", "decoder", "cross")
Inputs = dict[tuple[str, int], tuple[int, torch.Tensor]]  # (module, its call) -> (order, its first input)
_ATTENTION_LAYERS = re.compile(r"(?<!linear_)attention$|^hybrid|^attention$")


@dataclass(frozen=True)
class Row:
    """What was found of one pair; differences are the largest ones, None where there is nothing to compare.

    interface   whether attention goes through a module-level `eager_attention_forward` on eager: "yes", "no" (the
                model's own code returns attentions) or "none" (it returns no attentions at all)
    """

    mapping: str
    model_type: str
    status: str
    family: str = ""
    interface: str = "none"
    patterns: float | None = None
    logits: float | None = None
    edit: float | None = None
    reason: str = ""

    @property
    def key(self) -> tuple[str, str]:
        return self.mapping, self.model_type


class Wrong(Exception):
    """The library showed something that the oracle contradicts."""


class Spy(Edit):
    """Changes nothing; keeps the head outputs of every layer."""

    heads = ()
    title = "spy"

    def __init__(self) -> None:
        self.seen: dict[tuple[str, int], torch.Tensor] = {}

    def touches(self, site: str, layer: int) -> bool:
        return True

    def output(self, z: torch.Tensor, site: str, layer: int) -> torch.Tensor:
        self.seen[site, layer] = z.detach().clone()
        return z


class Oracle:
    """The model on its own eager attention, with plain hooks."""

    def __init__(self, hf_model: Any, ids: Mapping[str, torch.Tensor]) -> None:
        self.model = copy.deepcopy(hf_model)
        self.model.set_attn_implementation("eager")
        self.ids = dict(ids)
        self._eager_calls = 0
        with self._counting(), self._watching({}) as self._inputs:
            self.outputs = run_plain(self.model, self.ids, output_attentions=True)

    @property
    def logits(self) -> torch.Tensor:
        return logits_of(self.outputs)

    @property
    def interface(self) -> str:
        if not any(self.returned(site) for site in _SITES):
            return "none"
        return "yes" if self._eager_calls else "no"

    def attentions(self, site: str) -> list[torch.Tensor]:
        """What it returns as attentions at a site that are attentions: recurrent states (minimax) are not."""
        n_source, n_target = (self.ids.get(name, self.ids["input_ids"]).shape[1] for name in tiny.NAMES)
        n_query = n_source if site == "encoder" else n_target
        n_key = n_target if site == "decoder" else n_source
        window = getattr(self.model.config, "attention_window", None)  # a list, one width a layer
        given = self.returned(site)
        if window and given and given[0].shape[-1] == window[0] + 1:
            given = [_unrolled(band) for band in given]
        return [w for w in given if w.dim() == 4 and w.shape[2:] == (n_query, n_key)]

    def returned(self, site: str) -> list[torch.Tensor]:
        """The tensors that it returns as attentions of a site."""
        names = {"encoder": ("encoder_attentions", "attentions"), "decoder": ("decoder_attentions", "attentions")}
        for name in names.get(site, ("cross_attentions",)):
            given = getattr(self.outputs, name, None)
            if given is not None and len(given):
                return [weights for weights in given if isinstance(weights, torch.Tensor)]
        return []

    def layers(self) -> tuple[int, ...] | None:
        """Which layers have attention, where the configuration tells."""
        config = self.model.config.get_text_config()
        kinds = getattr(config, "layer_types", None) or getattr(config, "layers_block_type", None)
        if not kinds:
            return None
        return tuple(n for n, kind in enumerate(kinds) if _ATTENTION_LAYERS.search(kind))

    def without(self, module: str, call: int, columns: slice) -> torch.Tensor:
        """The logits when some columns of one module's input are zero, at one of its calls."""
        calls = 0

        def zero(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
            nonlocal calls
            calls += 1
            if calls - 1 != call:
                return None
            changed = args[0].clone()
            changed[..., columns] = 0
            return (changed, *args[1:])

        handle = self.model.get_submodule(module).register_forward_pre_hook(zero)
        try:
            return logits_of(run_plain(self.model, self.ids))
        finally:
            handle.remove()

    def without_head(self, attention: str, call: int, head: int, instead: torch.Tensor | float = 0.0) -> torch.Tensor:
        """The logits when the eager function gives nothing, or `instead`, for one head at one call of one module."""
        with self._eager_giving(attention, call, head, instead):
            return logits_of(run_plain(self.model, self.ids))

    def outputs_of(self, attention: str, call: int, ids: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """What the eager function gives at one call of one module on other ids, [query, head, d_value]."""
        seen: list[torch.Tensor] = []
        with self._eager_changed(attention, call, lambda z: seen.append(z[0].clone()) or z):
            run_plain(self.model, ids)
        return seen[0]

    def entrance(self, attention: str, call: int, z: torch.Tensor, head: int) -> tuple[str, int] | None:
        """(module, its call) whose input is z, [batch, query, head, d_value]: where the heads leave for good.

        Looks inside the attention module, then around it, two levels up. Where a gate or a rotation stands between, no
        input equals z: then it is the first one that, without the head, is zero in the head's columns and unchanged in
        the others.
        """
        parts = attention.split(".")
        scopes = [".".join(parts[: len(parts) - up]) + "." for up in range(min(3, len(parts)))]
        flat = z.flatten(2).reshape(-1, z.shape[2] * z.shape[3])
        columns = slice(head * z.shape[3], (head + 1) * z.shape[3])
        same = {
            key: order
            for key, (order, given) in self._inputs.items()
            if given.numel() == flat.numel() and given.shape[-1] == flat.shape[-1]
            if torch.allclose(given.reshape(flat.shape), flat, rtol=1e-4, atol=1e-4)
        }
        found = _first(same, scopes, attention)
        if found is not None:
            return found
        with self._eager_giving(attention, call, head), self._watching({}) as changed:
            run_plain(self.model, self.ids)
        others = torch.ones(flat.shape[-1], dtype=torch.bool)
        others[columns] = False
        local = {}
        for key, (order, given) in changed.items():
            if given.numel() == flat.numel() and given.shape[-1] == flat.shape[-1]:
                before = self._inputs[key][1]
                zero = not given[..., columns].any() and bool(before[..., columns].any())
                if zero and torch.equal(given[..., others], before[..., others]):
                    local[key] = order
        return _first(local, scopes, attention)

    @contextmanager
    def _counting(self) -> Iterator[None]:
        """Count the calls of `eager_attention_forward` in the modelling files of this model."""
        files = {sys.modules[type(module).__module__] for module in self.model.modules()}
        originals = {f: f.eager_attention_forward for f in files if hasattr(f, "eager_attention_forward")}

        def counted(original: Callable[..., Any]) -> Callable[..., Any]:
            def eager(*args: Any, **keywords: Any) -> Any:
                self._eager_calls += 1
                return original(*args, **keywords)

            return eager

        for file, original in originals.items():
            file.eager_attention_forward = counted(original)
        try:
            yield
        finally:
            for file, original in originals.items():
                file.eager_attention_forward = original

    def _eager_giving(
        self, attention: str, call: int, head: int, instead: torch.Tensor | float = 0.0
    ) -> AbstractContextManager[None]:
        """While open, the modelling file's eager function gives something else for one head."""

        def given(z: torch.Tensor) -> torch.Tensor:
            z = z.clone()
            z[:, :, head] = instead
            return z

        return self._eager_changed(attention, call, given)

    @contextmanager
    def _eager_changed(
        self, attention: str, call: int, change: Callable[[torch.Tensor], torch.Tensor]
    ) -> Iterator[None]:
        """While open, what the modelling file's eager function gives is changed, at one call of one module."""
        target, calls = self.model.get_submodule(attention), 0
        file = sys.modules[type(target).__module__]
        original = file.eager_attention_forward

        def changed(module: nn.Module, *args: Any, **keywords: Any) -> Any:
            nonlocal calls
            z, weights = original(module, *args, **keywords)
            if module is target:
                calls += 1
                if calls - 1 == call:
                    z = change(z)
            return z, weights

        file.eager_attention_forward = changed
        try:
            yield
        finally:
            file.eager_attention_forward = original

    @contextmanager
    def _watching(self, kept: Inputs) -> Iterator[Inputs]:
        """Keep every module's first input, in order, while the model runs."""
        calls: Counter[str] = Counter()

        def keep(name: str) -> Any:
            def hook(_: nn.Module, args: tuple[Any, ...]) -> None:
                if args and isinstance(args[0], torch.Tensor) and args[0].is_floating_point():
                    kept[name, calls[name]] = (len(kept), args[0].detach().clone())
                calls[name] += 1

            return hook

        handles = [m.register_forward_pre_hook(keep(name)) for name, m in self.model.named_modules() if name]
        try:
            yield kept
        finally:
            for handle in handles:
                handle.remove()


def _unrolled(band: torch.Tensor) -> torch.Tensor:
    """Longformer's attentions, [batch, head, query, 1 + window] around each query, as [batch, head, query, key]."""
    length, width = band.shape[2:]
    full = band.new_zeros((*band.shape[:3], length))
    for query in range(length):
        for column in range(width):
            key = query + column - width // 2
            if 0 <= key < length:
                full[..., query, key] = band[..., query, column]
    return full


def _first(found: Mapping[tuple[str, int], int], scopes: Sequence[str], itself: str) -> tuple[str, int] | None:
    """The earliest of these module calls, in the narrowest scope that has any."""
    for scope in scopes:
        inside = [(order, key) for key, order in found.items() if key[0].startswith(scope) and key[0] != itself]
        if inside:
            return min(inside)[1]
    return None


@torch.no_grad()
def run_plain(hf_model: Any, ids: Mapping[str, torch.Tensor], **keywords: Any) -> Any:
    """One forward as a user writes it: ids and a mask of ones, no cache, whatever of it the model takes."""
    import inspect

    extra = {"attention_mask": torch.ones_like(ids["input_ids"]), "use_cache": False}
    known = inspect.signature(hf_model.forward).parameters
    return hf_model(**ids, **{name: value for name, value in extra.items() if name in known}, **keywords)


def logits_of(outputs: Any) -> torch.Tensor:
    found = getattr(outputs, "logits", None)
    return (outputs.prediction_logits if found is None else found)[0]


def check(mapping: str, model_type: str) -> Row:
    """Everything about one pair; never raises."""
    row = Row(mapping, model_type, "not built")
    unbuilt = tiny.UNBUILT.get(row.key)
    if unbuilt:
        return replace(row, reason=unbuilt)
    row = _check(row)
    if row.status == "refused" and 'attn_implementation="eager"' in row.reason:
        advised = _check(replace(row, status="not built", reason=""), attn_implementation="eager")
        return replace(advised, reason=f"only when loaded with eager attention; {advised.reason}".removesuffix("; "))
    return row


def _check(row: Row, **options: Any) -> Row:
    try:
        hf_model = tiny.build(*row.key, **options)
        ids = tiny.inputs(hf_model)
        oracle = Oracle(hf_model, ids)
    except Exception as error:  # whatever a modelling file raises
        return replace(row, reason=_one_line(error))
    row = replace(row, interface=oracle.interface)
    try:
        return _compare(row, hf_model, oracle)
    except Wrong as error:
        return replace(row, status="wrong", reason=_one_line(error))
    except Exception as error:  # a crash is a finding, not the end of the sweep
        return replace(row, status="crash", reason=f"{type(error).__name__}: {_one_line(error)}")


def _compare(row: Row, hf_model: Any, oracle: Oracle) -> Row:
    plain = copy.deepcopy(hf_model)
    try:
        model = attnviz.wrap_model(hf_model)
        row = replace(row, family=model.info.family, status=model.info.status, reason=_one_line(model.info.reason))
        trace = model.trace(**oracle.ids)
    except AttnvizError as error:
        before, after = (logits_of(run_plain(m, oracle.ids)) for m in (plain, hf_model))
        if not torch.equal(before, after):
            raise Wrong(f"refused, and left computing something else ({_gap(before, after):.2g})") from error
        return replace(row, status="refused", reason=_one_line(error))
    if plain.config.get_text_config()._attn_implementation != model.info.kernel:
        plain.set_attn_implementation(model.info.kernel)
    untouched = logits_of(run_plain(plain, oracle.ids))
    if not torch.equal(trace.logits, untouched):
        raise Wrong(f"the unedited trace's logits differ from the plain model's by {_gap(trace.logits, untouched):.2g}")
    row = replace(row, logits=_gap(trace.logits, oracle.logits), patterns=_patterns(trace, oracle))
    if model.info.status in ("exact", "partial"):
        edit, note = _edits(model, oracle)
        row = replace(row, edit=edit, reason=note)
        missing = set(_SITES) - set(model.info.sites) if model.info.family == "encoder-decoder" else set()
        if missing:  # what there is was compared below like any other, but it is not all
            row = replace(
                row, status="partial", reason=f"no patterns at the {' and '.join(sorted(missing))}: {PARTIAL}"
            )
    else:
        site = model.info.sites[0]
        with _refused("an edit of a view-only model"):
            model.trace(**oracle.ids, edits=(ZeroHeads([Head(trace.layers(site)[0], 0, site)]),))
    for name in ("patterns", "logits", "edit"):
        value = getattr(row, name)
        if value is not None and not value <= TOLERANCE:
            return replace(row, status="wrong", reason=f"{name} differ by {value:.2g} from the oracle's")
    return row


def _patterns(trace: Any, oracle: Oracle) -> float:
    """The largest difference from eager's patterns; Wrong for anything that is no attention pattern of the axes."""
    largest = 0.0
    for site in trace.info.sites:
        mine, reference = list(trace.layers(site)), oracle.attentions(site)
        if len(mine) != len(reference):
            raise Wrong(f"{len(mine)} layers at the {site}, eager returns {len(reference)}")
        expected = oracle.layers() if len(trace.info.sites) == 1 else None
        if expected is not None and tuple(mine) != expected:
            raise Wrong(f"layers are numbered {tuple(mine)}, the configuration says {expected}")
        queries, keys = trace.axes(site)
        for layer, weights in zip(mine, reference, strict=True):
            pattern = trace.pattern(layer, site=site)
            if tuple(pattern.shape[1:]) != (len(queries), len(keys)):
                raise Wrong(f"{site} layer {layer} has {tuple(pattern.shape[1:])}, axes ({len(queries)}, {len(keys)})")
            if not bool(torch.isfinite(pattern).all()) or float(pattern.min()) < 0:
                raise Wrong(f"{site} layer {layer} has weights that are negative or not finite")
            if float(pattern.sum(-1).max()) > 1 + TOLERANCE:
                raise Wrong(f"{site} layer {layer} has a row that sums to {float(pattern.sum(-1).max()):.3g}")
            if float(pattern.sum(-1).max()) < 1e-3:
                raise Wrong(f"{site} layer {layer} is empty")
            if pattern.shape != weights[0].shape:
                raise Wrong(f"{site} layer {layer} is {tuple(pattern.shape)}, eager's {tuple(weights[0].shape)}")
            largest = max(largest, _gap(pattern, weights[0]))
            with _refused(f"a pattern of {site} L{layer}H{len(pattern)}, which does not exist"):
                trace.pattern(layer, len(pattern), site)
    return largest


def _edits(model: Any, oracle: Oracle) -> tuple[float, str]:
    """The largest difference between an edit of one head and the naive edit, and a remark on where that was made."""
    spy = Spy()
    clean = model.trace(**oracle.ids, edits=(spy,))
    names = {module: name for name, module in model.hf_model.named_modules()}
    places = {place: (names[m], n) for m, found in model.layout.places.items() for n, place in enumerate(found)}
    largest, note = 0.0, ""
    for site in model.info.sites:
        layers = clean.layers(site)
        chosen = dict.fromkeys((layers[0], layers[len(layers) // 2], layers[-1]))
        for turn, layer in enumerate(chosen):
            z = spy.seen[site, layer]
            with _refused(f"an edit of {site} L{layer}H{z.shape[2]}, which does not exist"):
                model.trace(**oracle.ids, edits=(ZeroHeads([Head(layer, z.shape[2], site)]),))
            head = (0, z.shape[2] // 2, z.shape[2] - 1)[turn]
            entrance = oracle.entrance(*places[site, layer], z, head)
            edited = model.trace(**oracle.ids, edits=(ZeroHeads([Head(layer, head, site)]),)).logits
            if _gap(edited, clean.logits) < 10 * TOLERANCE:
                raise Wrong(f"zeroing {site} L{layer}H{head} changes the logits by {_gap(edited, clean.logits):.2g}")
            if entrance is None:
                naive = oracle.without_head(*places[site, layer], head)
                note = NOT_AT_PROJECTION
            else:
                naive = oracle.without(*entrance, slice(head * z.shape[3], (head + 1) * z.shape[3]))
            largest = max(largest, _gap(edited, naive))
    return largest, note


@contextmanager
def _refused(what: str) -> Iterator[None]:
    """Wrong unless the library refuses what is done inside."""
    try:
        yield
    except AttnvizError:
        return
    raise Wrong(f"{what} was not refused")


def _gap(a: torch.Tensor, b: torch.Tensor) -> float:
    gap = (a.float() - b.float()).abs()
    return float(gap.max()) if bool(torch.isfinite(gap).all()) else float("inf")


def _one_line(error: Any) -> str:
    return re.sub(r"\s+", " ", str(error)).replace("|", "/").strip()[:300]


def _quiet() -> None:
    warnings.simplefilter("ignore")
    transformers.utils.logging.set_verbosity_error()
    torch.set_num_threads(1)


def _worker(pair: tuple[str, str]) -> Row:
    return check(*pair)


def sweep(pairs: Sequence[tuple[str, str]], processes: int = 2) -> list[Row]:
    """All pairs, in worker processes of one thread each."""
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_quiet) as pool:
        rows = []
        for row in pool.map(_worker, pairs):
            rows.append(row)
            print(_line(row), flush=True)
        return rows


def entry(row: Row) -> dict[str, str]:
    """What the committed list keeps of a row."""
    return {name: getattr(row, name) for name in ("mapping", "model_type", "family", "interface", "status")}


def committed() -> dict[tuple[str, str], dict[str, str]]:
    """architectures.json: what every pair was when the list was last written; the denominator of every count."""
    return {(line["mapping"], line["model_type"]): line for line in json.loads(LIST.read_text())}


def changes(rows: Iterable[Row]) -> list[str]:
    """How these rows differ from the committed list."""
    now, then = {row.key: entry(row) for row in rows}, committed()
    found = [f"{' '.join(key)}: gone from transformers" for key in then.keys() - now.keys()]
    found += [f"{' '.join(key)}: not in {LIST.name}" for key in now.keys() - then.keys()]
    both = [key for key in now if key in then and now[key] != then[key]]
    return sorted(found) + [f"{' '.join(key)}: was {then[key]}, is {now[key]}" for key in both]


def shortfalls(rows: Iterable[Row]) -> list[str]:
    """What keeps these rows from being good enough; empty if nothing does."""
    rows = list(rows)
    found = [f"{row.mapping} {row.model_type}: {row.status}: {row.reason}" for row in rows if row.status in BAD]
    for interface, status, (least, of) in (("yes", "exact", EXACT_GOAL), ("no", "view-only", VIEW_GOAL)):
        good = [row for row in rows if row.interface == interface and row.status in (status, "exact")]
        total = [row for row in rows if row.interface == interface]
        if len(good) < least or len(good) * of < least * len(total):
            found.append(f"{len(good)} of {len(total)} {status}; the goal is {least} of {of}")
    found += [
        f"{row.mapping} {row.model_type} is {row.status}, and must be exact"
        for row in rows
        if row.model_type in MOST_USED and row.status != "exact"
    ]
    return found


def _line(row: Row) -> str:
    numbers = " ".join("-" if x is None else f"{x:.1e}" for x in (row.patterns, row.logits, row.edit))
    start = f"{row.mapping:8} {row.model_type:26} {row.family:16} {row.interface:5} {row.status:10}"
    return f"{start} {numbers}  {row.reason}"


def counts(rows: Iterable[Row]) -> dict[str, str]:
    """The counts in words, as they head the table."""
    rows = list(rows)
    by = Counter((row.interface, row.status) for row in rows)
    total = Counter(row.interface for row in rows)
    unbuilt = sum(row.status == "not built" for row in rows)
    return {
        "Pairs of a mapping and a model type": str(len(rows)),
        "of them not built (see below)": str(unbuilt),
        "whose attention goes through transformers' attention interface": str(total["yes"]),
        "of these exact": str(by["yes", "exact"]),
        "of these partial": str(by["yes", "partial"]),
        "of these view-only": str(by["yes", "view-only"]),
        "of these refused": str(by["yes", "refused"]),
        "whose own code returns attentions": str(total["no"]),
        "of those view-only ": str(by["no", "view-only"]),
        "of those refused ": str(by["no", "refused"]),
        "that return no attentions, all refused": str(total["none"] - unbuilt),
    }


def render(rows: Sequence[Row]) -> str:
    """docs/MODELS.md."""
    lines = [
        "# Which models AttnViz reads",
        "",
        f"Written by `python benchmarks/architectures.py --write` on {datetime.date.today():%d %B %Y}, with "
        f"transformers {transformers.__version__} and torch {torch.__version__}. A test compares it: do not edit.",
        "",
        "Every model type in transformers' causal, masked and sequence-to-sequence mappings is built tiny, with random",
        "weights that make peaked patterns, and checked against its own eager attention and against a plain hook:",
        "",
        f"- **exact**: all patterns and logits within {TOLERANCE:g} of eager's in float32, the unedited trace",
        "  bit-identical to the plain model, and an edit of one head in the first, middle and last layer of every site",
        "  equal to zeroing its columns at the input of the output projection (or of the norm before it);",
        "- **partial**: as exact, but one site of an encoder-decoder is not shown;",
        "- **view-only**: the patterns are those that the model returns by itself; edits are refused;",
        "- **refused**: `wrap_model` raises `Unsupported` and says why; the model computes what it computed before.",
        "",
        "What a tiny random model cannot tell: whether a model of this type in full size fits your memory.",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name.strip()} | {value} |" for name, value in counts(rows).items()),
        "",
        f"★ marks the {len(MOST_USED)} families people use most; each of them is exact.",
        "",
        "| mapping | model type | family | AttnViz | patterns | logits | edit | reason |",
        "|---|---|---|---|---|---|---|---|",
        *(_cells(row) for row in rows),
        "",
        "## What is refused or not built, and why",
        "",
    ]
    for status, title in (("refused", "Refused"), ("not built", "Not built here, so not checked")):
        lines += [f"**{title}**", ""]
        by_reason: dict[str, list[str]] = {}
        for row in rows:
            if row.status == status:
                by_reason.setdefault(_short(row), []).append(f"{row.model_type} ({row.mapping})")
        lines += [f"- {', '.join(names)}: {reason}" for reason, names in by_reason.items()]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _cells(row: Row) -> str:
    numbers = ["" if x is None else "0" if x == 0 else f"{x:.0e}" for x in (row.patterns, row.logits, row.edit)]
    star = " ★" if row.model_type in MOST_USED else ""
    reason = "" if row.status in ("refused", "not built") else _short(row)
    cells = (row.mapping, row.model_type + star, row.family, row.status, *numbers, reason)
    return "| " + " | ".join(cells) + " |"


def _short(row: Row) -> str:
    """The reason without what is the same for every model."""
    reason = re.sub(r"^\w+ cannot be read: ", "", row.reason)
    reason = re.sub(r"(; )?\b\w+ does not send its attention through .*?edited\.?", r"\1its own attention code", reason)
    reason = re.sub(r",? and it returns no attentions either.*", "; returns no attentions", reason)
    return re.sub(r"\.$", "", re.sub(r" \((ValueError|TypeError).*", "", reason))


def read_table() -> dict[tuple[str, str], tuple[str, str]]:
    """(family, status) by pair, out of docs/MODELS.md."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in TABLE.read_text().splitlines()]
    kinds = set(tiny.MAPPINGS)
    return {(r[0], r[1].removesuffix(" ★")): (r[2], r[3]) for r in rows if len(r) == 8 and r[0] in kinds}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", default=(), metavar="TYPE", help="these model types alone")
    parser.add_argument("--write", action="store_true", help=f"write {TABLE.name} and {LIST.name}")
    arguments = parser.parse_args()
    pairs = [pair for pair in tiny.pairs() if not arguments.only or pair[1] in arguments.only]
    rows = sweep(pairs)
    if arguments.only:
        return int(any(row.status in BAD for row in rows))
    print()
    for name, value in counts(rows).items():
        print(f"{value:>5}  {name}")
    problems = shortfalls(rows)
    if arguments.write and not problems:
        LIST.write_text("[\n" + ",\n".join(json.dumps(entry(row)) for row in rows) + "\n]\n")
        TABLE.write_text(render(rows))
        print(f"wrote {LIST} and {TABLE}")
    problems += changes(rows) if LIST.exists() else [f"there is no {LIST}"]
    for problem in problems:
        print(problem)
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
