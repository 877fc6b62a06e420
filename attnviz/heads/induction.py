"""What heads do on random text: repeat it, copy it, or look at places whatever it says.

Words of a real text repeat for reasons; random tokens drawn once and given twice leave only the repetition:

    [BOS or CLS] r r [SEP]        r: tokens drawn evenly from the vocabulary, each at most once, no special ones

Induction (Olsson et al. 2022, arXiv 2209.11895): attention of a token to the one after its earlier copy. The copy score
is after their copying evaluator, in a form of our own: what a head would write for having read a token, carried to the
logits, should raise that very token. It is read off each key alone, at its own position, among the text's own tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from attnviz import flow
from attnviz.checks import seeded
from attnviz.edits import Edit
from attnviz.errors import InputError, Unsupported
from attnviz.flow.logits import Unembedding
from attnviz.flow.run import Block, Run
from attnviz.heads.detecting import Detected, Values, detected
from attnviz.heads.detectors import DETECTORS, Masks
from attnviz.heads.position import position_only
from attnviz.models import Model
from attnviz.tap import Progress
from attnviz.trace import Trace
from attnviz.view import Sinks

PROBES = ("induction", "copy", "position", "previous", "duplicate")
_LOOKS = ("induction", "previous", "duplicate")


@dataclass(frozen=True, eq=False)
class Probed:
    """What every head of a site does on random tokens given twice.

    scores   name -> [sample, variant, layer, head]; NaN where there is no head. "induction", "previous", "duplicate":
             means of attention, in [0, 1]. "position": 1 where the pattern is the same whatever the tokens
             (`position_only`). "copy": in [-1, 1], read off what heads write and not off patterns, so the same in both
             variants
    chance   name -> [variant], what even attention scores on these samples; of "copy" 0, what tokens raised at random
             come to; of "position" 1: attention that is even has no other place to go
    site     where the heads are
    reason   why there are no copy scores; "" where there are
    """

    site: str
    scores: dict[str, Values]
    chance: dict[str, npt.NDArray[np.float32]]
    reason: str = ""


def induction(
    model: Model,
    *,
    length: int = 24,
    samples: int = 8,
    seed: int = 0,
    sinks: Sinks | None = None,
    edits: Sequence[Edit] = (),
    progress: Progress | None = None,
) -> Probed:
    """Run a model on random tokens, each sample given twice over, and score every head.

    length, samples   tokens of one copy, and how many samples; position needs 2
    sinks             as in `detect`; None: the first token
    progress          called with (samples done, samples in all); raise from it to stop
    raises            InputError for a length or number that cannot be; ContextError for texts too long for the model;
                      Unsupported for a decoder that reads another text (of an encoder-decoder, its encoder is probed)
    An encoder reads both ways, so the other copy of a token may stand after it. Not an effect on the output: heads
    that look like this may still write nothing.
    """
    if length < 2 or samples < 1:
        raise InputError(f"Probes need 2 tokens and 1 sample at least; got length={length}, samples={samples}.")
    site = model.info.sites[0]
    if site == "cross" or (model.info.family == "encoder-decoder" and site != "encoder"):
        raise Unsupported(f"{model.name} shows no self-attention over a text of its own, which random tokens need.")
    texts = random_texts(model, length=length, samples=samples, seed=seed)
    traces, copies, found, even = [], [], [], []
    reason = ""
    for done, ids in enumerate(texts):
        if progress is not None:
            progress(done, samples)
        trace, copy, why = _one(model, ids, edits, site)
        reason = reason or why
        one = repeats(trace, site=site, sinks=sinks)
        traces.append(trace)
        copies.append(copy)
        found.append(one.values)
        even.append(one.chance)
    if progress is not None:
        progress(samples, samples)
    values, chance = np.stack(found), _mean_of_layers(np.stack(even))
    scores = {name: values[:, :, i] for i, name in enumerate(_LOOKS)}
    scores["copy"] = np.repeat(np.stack(copies)[:, None], 2, axis=1)
    scores["position"] = np.full_like(scores["copy"], np.nan)
    if samples > 1:
        scores["position"] = position_only(traces, site=site, sinks=sinks)
    chances = {name: chance[:, i] for i, name in enumerate(_LOOKS)}
    chances |= {"copy": np.zeros(2, np.float32), "position": np.ones(2, np.float32)}
    return Probed(site, {name: scores[name] for name in PROBES}, {name: chances[name] for name in PROBES}, reason)


def repeats(trace: Trace, *, site: str | None = None, sinks: Sinks | None = None) -> Detected:
    """Induction, previous and duplicate token on one text, random or not; arguments as `detect` has them.

    Only keys behind other copies of a token, and the copies, are looked for: rows of tokens that come once say nothing
    of induction.
    """
    values, chance = detected(trace, _looked_for, len(_LOOKS) + 2, site, sinks)
    return Detected(_LOOKS, values[:, : len(_LOOKS)], chance[:, : len(_LOOKS)])


def _mean_of_layers(chance: Values) -> Values:
    """[sample, variant, value, layer] -> [variant, value], over what is there."""
    there = np.isfinite(chance)
    count = there.sum((0, 3))
    total = np.where(there, chance, 0).sum((0, 3))
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)


def random_texts(model: Model, *, length: int, samples: int, seed: int) -> list[list[int]]:
    """Token ids: what the model's tokenizer puts before a text, random tokens twice over, what it puts behind."""
    before, behind, special = _special(model)
    # A table of embeddings may have rows to fill it up, which no token has.
    known = model.vocabulary if model.reader.tokenizer is None else min(model.vocabulary, len(model.reader.tokenizer))
    ordinary = np.setdiff1d(np.arange(known), np.array(sorted(special), dtype=int))
    if len(ordinary) < length:
        raise InputError(f"{model.name} has {len(ordinary)} ordinary tokens; got a length of {length}. Choose less.")
    chance = np.random.default_rng(seeded(seed))
    drawn = [chance.choice(ordinary, length, replace=False).tolist() for _ in range(samples)]
    return [[*before, *once, *once, *behind] for once in drawn]


def copy_scores(run: Run, model: Model) -> Values:
    """Whether what a head writes of a token raises that token: [layer, head], from -1 to 1; NaN where there is no head.

    Every key's value goes through the head's output projection, the norms at its own position (held at their scale) and
    the output projection. Among the logits of the text's own tokens, their mean taken off, the score is that of the
    key's token as a share of all that was raised: 1 where it alone rises, -1 where it alone falls, 0 on average for
    tokens in any random order. The mean over the text's tokens, special ones aside.

    raises   Unsupported where the logits are more than an output projection (`flow.logits`), or of an encoder-decoder,
             whose cross-attention reads tokens of another text
    """
    info, site = run.trace.info, run.blocks[-1].site
    if info.family == "encoder-decoder":
        raise Unsupported(f"{info.name} reads two texts: copy scores are of one text's tokens and logits.")
    tokens = run.trace.tokens
    kept = [i for i, token in enumerate(tokens) if not token.special]
    names, own = np.unique([tokens[i].id for i in kept], return_inverse=True)
    towards = Unembedding.of(run, model)
    matrix = towards.weight[torch.tensor(names, device=towards.weight.device)].float().T * towards.factor
    places = torch.tensor(own, device=matrix.device)
    out = np.full((info.layers_of(site), info.heads_of(site)), np.nan, np.float32)
    mine = [block for block in run.blocks if block.site == site]
    for at, block in enumerate(mine):
        written = _at_the_end(run, mine[at:], block.values().transpose(0, 1))[kept]  # key head d_model
        logits = written @ matrix
        centred = logits - logits.mean(-1, keepdim=True)
        raised = centred.clamp(min=0).sum(-1)
        mine_of = centred.gather(-1, places[:, None, None].expand(-1, logits.shape[1], 1))[..., 0]
        out[block.layer, : block.n_heads] = (mine_of / raised.clamp(min=1e-30)).mean(0).cpu().numpy()
    return out


def _at_the_end(run: Run, blocks: Sequence[Block], parts: torch.Tensor) -> torch.Tensor:
    """What the first block's heads write, [position, head, d_model], as it is in the state behind the last norm."""
    parts = blocks[0].added(parts)
    for block in blocks:
        parts = block.behind(parts)
        if block.mlp is not None and block.mlp.norm is not None:
            parts = block.mlp.norm.linear(parts)
    return parts if run.final is None else run.final.linear(parts)


def _one(model: Model, ids: list[int], edits: Sequence[Edit], site: str) -> tuple[Trace, Values, str]:
    """(trace without logits, copy scores, why there are none)."""
    reason = "What this encoder writes is read by a decoder, not by the logits."
    several = model.family == "encoder-decoder"
    reason = reason if several else ""
    if not model.has_vocabulary:
        reason = f"{model.name} has no vocabulary head, so nothing that a head writes raises a token."
    if not reason:
        try:
            run = flow.take_apart(model, input_ids=ids, edits=edits)
            return replace(run.trace, raw_logits=None), copy_scores(run, model), ""
        except Unsupported as error:
            reason = str(error)
    # What the decoder reads is nothing to the encoder, but without it the model would write a whole text.
    trace = model.trace(input_ids=ids, decoder_input_ids=ids[:1] if several else None, edits=edits)
    none = np.full((model.info.layers_of(site), model.info.heads_of(site)), np.nan, np.float32)
    return replace(trace, raw_logits=None), none, reason


def _looked_for(masks: Masks, rows: slice) -> torch.Tensor:
    """[batch, query, key, look]: the keys after other copies of the query's token; then as the detectors have them."""
    ids = masks.key_ids
    before = torch.cat([torch.full_like(ids[:, :1], -3), ids[:, :-1]], 1)
    places = torch.arange(ids.shape[1], device=ids.device)
    follows = (masks.query_ids[:, rows, None] == before[:, None]) & (ids >= 0)[:, None]
    follows &= masks.own[:, rows, None] != places[None, None] - 1  # the token after itself follows no other copy
    of = masks.sought(rows)
    named = {name: of[..., i] for i, name in enumerate(DETECTORS) if i < of.shape[-1]}
    return torch.stack([follows, *[named[name] for name in _LOOKS[1:]]], -1)


def _special(model: Model) -> tuple[list[int], list[int], set[int]]:
    """(ids before a text, ids behind it, all special ids)."""
    tokenizer = model.reader.tokenizer
    if tokenizer is None:
        return [], [], set()
    tokens = model.encode("a").tokens
    ordinary = [i for i, token in enumerate(tokens) if not token.special]
    before, behind = tokens[: ordinary[0]], tokens[ordinary[-1] + 1 :]
    added = {int(i) for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return [t.id for t in before], [t.id for t in behind], added | {int(i) for i in tokenizer.all_special_ids}
