"""Which heads and feed-forward blocks write a prediction, directly; and what each layer would predict.

Direct logit attribution (Wang et al. 2022, "IOI", arXiv 2211.00593): the last state is the sum of the embedding and of
all that heads, feed-forward blocks and biases add to it, and with every norm on the way held at its scale in this run,
so are the logits. It counts what a part writes to the output itself, not what later parts make of it.

The logits have to be the output projection of the last state, up to a constant factor (Granite), a bias, and a cap
(Gemma 2: what is attributed are then the logits before it). That is checked on the run; other heads are refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pandas as pd
import torch

from attnviz.anatomy import Frozen
from attnviz.checks import whole
from attnviz.errors import MetricError, Unsupported
from attnviz.flow.run import Block, Run
from attnviz.flow.target import Aim
from attnviz.models import Model
from attnviz.trace import checked_position
from attnviz.watching import applied, close

_SUM = {torch.float64: 1e-3, torch.float32: 1e-3}  # how far parts may be from their sum, as a share of the largest
_CHECKED = 8  # positions at which a run's logits are held against the projection
_ROWS = 16_384  # of the projection, made float32 at once


@dataclass(frozen=True, eq=False)
class Unembedding:
    """The output projection: logits = factor * states @ weight.T + bias, then capped.

    weight   [vocab, d_model], the model's own, in its dtype
    bias     [vocab], float32
    cap      logits are cap * tanh(logits / cap); None for no cap
    """

    weight: torch.Tensor
    bias: torch.Tensor
    factor: float
    cap: float | None

    @classmethod
    def of(cls, run: Run, model: Model) -> Unembedding:
        """The model's, held against some of the run's positions; that is done once a run.

        raises   Unsupported where the run's logits are something else than that
        """
        module, logits = model.hf_model.get_output_embeddings(), run.trace.logits
        weight = getattr(module, "weight", None)
        if logits is None or not isinstance(weight, torch.Tensor):
            raise Unsupported(f"{model.name} has no output projection, so no part of it writes logits.")
        if weight.shape != (logits.shape[-1], run.last.shape[-1]):
            raise Unsupported(f"{model.name}'s logits are more than an output projection of its last states.")
        own = getattr(module, "bias", None)
        bias = (
            own.detach().float() if isinstance(own, torch.Tensor) else torch.zeros_like(logits[0], dtype=torch.float32)
        )
        fixed = getattr(model.hf_model, "final_logits_bias", None)  # Marian and BART add it behind the projection
        bias = bias + fixed[0].float() if isinstance(fixed, torch.Tensor) else bias
        cap = getattr(model.hf_model.config.get_text_config(), "final_logit_softcapping", None)
        head = cls(weight.detach(), bias, run.kept.get("logit factor", 1.0), cap)
        return head if "logit factor" in run.kept else head._checked(run, logits, model.name)

    def _checked(self, run: Run, logits: torch.Tensor, name: str) -> Unembedding:
        """With the factor that this run's logits show, where nothing else is left of them."""
        places = torch.linspace(0, len(logits) - 1, min(len(logits), _CHECKED)).round().long()
        states, given = run.last if run.final is None else run.final.linear(run.last) + run.final.bias, logits[places]
        plain, raw = self.of_states(states[places]), given.float()
        raw = raw if self.cap is None else self.cap * torch.atanh((raw / self.cap).clamp(-1 + 1e-6, 1 - 1e-6))
        factor = float(((raw - self.bias) * plain).sum() / (plain * plain).sum().clamp(min=1e-30))
        # A factor that is no more than rounding is none.
        head = replace(self, factor=1.0 if abs(factor - 1) < 1e-3 else factor)
        if not close(head.logits(states[places]).to(given.dtype), given):
            raise Unsupported(
                f"{name}'s logits are more than an output projection of its last states (a transform stands "
                "between them, say), so they cannot be divided among its parts."
            )
        run.kept["logit factor"] = head.factor
        return head

    def of_states(self, states: torch.Tensor) -> torch.Tensor:
        """The matrix alone: [..., d_model] -> [..., vocab], float32."""
        return torch.cat([states @ rows.float().T for rows in self.weight.split(_ROWS)], dim=-1)

    def towards(self, aim: Aim) -> torch.Tensor:
        """[d_model], float32: along it a state raises logit(answer) over that of the foil, or over the mean logit."""
        against = self.weight.mean(0, dtype=torch.float32) if aim.foil is None else self.weight[aim.foil].float()
        return self.factor * (self.weight[aim.answer].float() - against)

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """[..., d_model] -> [..., vocab]."""
        logits = self.factor * self.of_states(states) + self.bias
        return logits if self.cap is None else self.cap * torch.tanh(logits / self.cap)


@dataclass(frozen=True, eq=False)
class Attribution:
    """One outcome divided among the parts of the model.

    title    the outcome in words, in logits: the answer's above the mean of the vocabulary, or above the foil's
    total    its value: what the parts sum to
    rows     (part, site, layer, head, logits): part is "embedding", "head", "mlp", "bias", or "layer", what a layer
             without attention adds; -1 where a part has no layer or no head
    """

    title: str
    total: float
    rows: tuple[tuple[str, str, int, int, float], ...]

    def frame(self) -> pd.DataFrame:
        """A row for each part: part, site, layer, head, logits."""
        return pd.DataFrame(self.rows, columns=["part", "site", "layer", "head", "logits"])


def attribution(run: Run, model: Model, aim: Aim) -> Attribution:
    """What each part of the model writes to logit(answer) - logit(foil) at the target's position.

    Without a foil, to logit(answer) less the mean logit of the vocabulary: a part that lifts all logits alike changes
    no prediction. Of an encoder-decoder, the decoder's parts: the encoder writes nothing itself.

    raises   MetricError for a target that is no prediction; Unsupported where the logits, or their sum, do not come out
    """
    query, answer = _prediction(aim)
    query = checked_position(query, len(run.trace.tokens), "query")
    head = Unembedding.of(run, model)
    shift = head.bias[answer] - (head.bias.mean() if aim.foil is None else head.bias[aim.foil])
    found = list(_parts(run, query))
    written = torch.stack([part for *_, part in found]) @ head.towards(aim)
    rows = [(*of, float(logits)) for (*of, _), logits in zip(found, written, strict=True)]
    rows.append(("bias", "", -1, -1, float(shift)))
    told = float(written.sum() + shift)
    if head.cap is None and run.trace.logits is not None:
        clean = run.trace.logits[query].float()
    else:
        state = run.last[query] if run.final is None else _linear(run.final, query, run.last[query]) + run.final.bias
        clean = head.factor * head.of_states(state) + head.bias
    total = float(clean[answer] - (clean.mean() if aim.foil is None else clean[aim.foil]))
    largest = max(1.0, abs(total), float(written.abs().max()))
    if abs(told - total) > _SUM.get(model.hf_model.dtype, 5e-2) * largest:
        raise Unsupported(f"The parts of {model.name} sum to {told:.4g}, not to the outcome's {total:.4g} logits.")
    said = run.trace.decode(answer)
    of = "the mean logit" if aim.foil is None else f"that of {run.trace.decode(aim.foil)!r}"
    capped = "" if head.cap is None else ", before the cap"
    return Attribution(f"logit of {said!r} minus {of} at position {query}{capped}", total, tuple(rows))  # type: ignore[arg-type]


@torch.no_grad()
def promotes(
    run: Run,
    model: Model,
    block: Block,
    head: int,
    query: int,
    k: int = 10,
    *,
    keys: int | Sequence[int] | None = None,
) -> pd.DataFrame:
    """The tokens whose logits one head's output at a query raises and lowers most, directly.

    block     one of the run's, not of an encoder below a decoder
    keys      only what the head moves from these positions; None: its whole output
    returns   direction ("promotes" or "suppresses"), rank from 1, token_id, token, logits: above the vocabulary's mean
    raises    Unsupported as `attribution`; InputError for a position that there is not
    """
    whole(k, "k, the number of tokens,")
    whole(head, "A head", least=0, most=block.attention.n_heads - 1)
    output, (query, written) = Unembedding.of(run, model), _written(run, block, query, keys)
    logits = output.factor * output.of_states(_carried(run, block, query, written[head]))
    logits = logits - logits.mean()
    rows = []
    for direction, sign in (("promotes", 1), ("suppresses", -1)):
        top = (sign * logits).topk(min(k, len(logits)))
        for rank, (value, i) in enumerate(zip(top.values.tolist(), top.indices.tolist(), strict=True), start=1):
            rows.append((direction, rank, i, run.trace.decode(i), sign * value))
    return pd.DataFrame(rows, columns=["direction", "rank", "token_id", "token", "logits"])


@torch.no_grad()
def edge_logits(run: Run, model: Model, block: Block, query: int, keys: int | Sequence[int], aim: Aim) -> torch.Tensor:
    """What each head, for having read these keys, writes directly to the target's outcome at the query: [head].

    In logits of the answer, less the foil's or the vocabulary's mean; over all keys it is the head's row of
    `attribution`. Only at the target's own position does the prediction read it at once: at another it says what the
    part speaks for there, which later layers may carry on or not.

    raises    MetricError, Unsupported as `attribution`; InputError for a position that there is not
    """
    _prediction(aim)
    head, (query, written) = Unembedding.of(run, model), _written(run, block, query, keys)
    return _carried(run, block, query, written) @ head.towards(aim)


@torch.no_grad()
def lens(run: Run, model: Model, query: int, k: int = 5, *, answer: int | None = None) -> pd.DataFrame:
    """The logit lens: what the final norm and the output projection make of the state after each layer.

    The final norm takes each state at that state's own scale. A lower layer's state was never meant to be read so: what
    shows there is how near it already is to the output, not what the model "thinks".

    query     the position, 0-based; `answer`: a token to follow, by default the one predicted there
    returns   layer (-1: the embeddings), rank from 1, token_id, token, probability; the k likeliest tokens of each
              layer, and the answer where it is not among them
    raises    Unsupported where the head is more than a projection
    """
    query = checked_position(query, len(run.trace.tokens), "query")
    whole(k, "k, the number of tokens,")
    if answer is not None:
        whole(answer, "An answer, as the id of a token,", least=0, most=model.vocabulary - 1)
    head, final = Unembedding.of(run, model), model.anatomy.final
    levels = {-1: run.embedded[query]}
    for block in _mine(run):
        levels[block.layer] = (block.after if block.mlp is None else block.mlp.after)[query]
    states = torch.stack(list(levels.values()))
    if final is not None:
        states = applied([final], states[None].to(model.hf_model.dtype))[0].float()
    chances = head.logits(states).softmax(-1)
    answer = int(chances[-1].argmax()) if answer is None else answer
    rows = []
    for layer, chance in zip(levels, chances, strict=True):
        top = chance.topk(min(k, len(chance)))
        ranked = list(enumerate(top.indices.tolist(), start=1))
        if answer not in top.indices.tolist():
            ranked.append((1 + int((chance > chance[answer]).sum()), answer))
        rows += [(layer, rank, i, run.trace.decode(i), float(chance[i])) for rank, i in ranked]
    return pd.DataFrame(rows, columns=["layer", "rank", "token_id", "token", "probability"])


def _prediction(aim: Aim) -> tuple[int, int]:
    """The position and the answer of a target that is a prediction."""
    if aim.query is None or aim.answer is None:
        raise MetricError("Logits are attributed at a prediction; this target is a similarity of embeddings.")
    return aim.query, aim.answer


def _written(run: Run, block: Block, query: int, keys: int | Sequence[int] | None) -> tuple[int, torch.Tensor]:
    """(the query, [head, d_model] that each head of a block adds there); for having read some keys, or all."""
    if block not in _mine(run):
        raise Unsupported("An encoder's heads write to the decoder's keys and values, and nothing to the logits.")
    query = checked_position(query, len(run.trace.tokens), "query")
    read = block.z[query]
    if keys is not None:
        value = block.attention.value[0]
        asked = [keys] if isinstance(keys, int) else keys
        chosen = sorted({checked_position(key, value.shape[1], "key") for key in asked})
        weights = block.weights(slice(query, query + 1))[:, 0, chosen]
        values = value[:, chosen].float().repeat_interleave(block.attention.group, dim=0)
        read = torch.einsum("hk,hkv->hv", weights, values)
    parts = torch.einsum("hv,hvd->hd", read, block.weight)
    return query, (parts if block.out is None else _linear(block.out, query, parts)) * block.factor


def _mine(run: Run) -> list[Block]:
    """The blocks of the stack that ends in the logits."""
    return [b for b in run.blocks if b.site != "encoder" or run.trace.info.family == "encoder"]


def _parts(run: Run, query: int) -> Iterator[tuple[str, str, int, int, torch.Tensor]]:
    """(part, site, layer, head, vector [d_model]): they sum to the state that the output projection reads."""
    blocks = _mine(run)
    yield "embedding", "", -1, -1, _carried(run, None, query, run.embedded[query])
    stream, below = run.embedded[query], None
    for block in blocks:
        # Layers without attention stand in no block; what they add shows as a gap.
        gap = block.before[query] - stream
        if float(gap.abs().max()) > 1e-4 * float(stream.abs().max()):
            yield "layer", block.site, block.layer - 1, -1, _carried(run, below, query, gap, behind=True)
        for head, part in enumerate(block.heads()[query]):
            yield "head", block.site, block.layer, head, _carried(run, block, query, part)
        bias = _carried(run, block, query, block.bias_part()[query])
        stream = block.after[query]
        if block.norm is not None:
            bias = bias + _carried(run, block, query, block.norm.bias, normed=True)
        if block.mlp is not None:
            stream = block.mlp.after[query]
            yield "mlp", block.site, block.layer, -1, _carried(run, block, query, block.mlp.written[query], normed=True)
            if block.mlp.norm is not None:
                bias = bias + _carried(run, block, query, block.mlp.norm.bias, behind=True)
        yield "bias", block.site, block.layer, -1, bias
        below = block
    if run.final is not None:
        yield "bias", "", -1, -1, run.final.bias


def _carried(
    run: Run, block: Block | None, query: int, part: torch.Tensor, *, normed: bool = False, behind: bool = False
) -> torch.Tensor:
    """Parts of the residual stream, [..., d_model], as they are in the state that the output projection reads.

    block    where it is added; None for the embeddings
    normed   it joins behind the block's own norm; `behind`: behind its feed-forward block's, too
    """
    blocks = _mine(run)
    first = 0 if block is None else blocks.index(block)
    for later in blocks[first:]:
        here = later is block
        if later.norm is not None and not (here and (normed or behind)):
            part = _linear(later.norm, query, part)
        if later.mlp is not None and later.mlp.norm is not None and not (here and behind):
            part = _linear(later.mlp.norm, query, part)
    return part if run.final is None else _linear(run.final, query, part)


def _linear(norm: Frozen, query: int, part: torch.Tensor) -> torch.Tensor:
    """What a frozen norm makes of parts at one position: [..., d_model] in and out."""
    return replace(norm, scale=norm.scale[query : query + 1]).linear(part[None])[0]
