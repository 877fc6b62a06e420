"""A model that can be traced: any transformers model, its tokenizer, and where its attention is.

    text -> Reader -> ids, tokens -> forward through the tap -> Trace

A Model is shared: nothing that a call does stays on it. It does not know where models come from (`attnviz.catalogue`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from transformers import PreTrainedModel

from attnviz.anatomy import Anatomy, find
from attnviz.edits import Edit, checked
from attnviz.encoding import Encoded, Reader
from attnviz.errors import HeadError, InputError, MetricError, Unsupported
from attnviz.generation import Writing, continued
from attnviz.info import ModelInfo, Origin, describe
from attnviz.layout import Layout, forward_inputs, probe, start_token
from attnviz.memory import plain_out_of_memory
from attnviz.metrics import Metric, Outputs
from attnviz.outputs import Results, TopK, results, separate_head, vocabulary_of
from attnviz.tap import Call, Progress, run
from attnviz.trace import KEPT_TOKENS, Trace
from attnviz.tracing import traces

_MOST_WRITTEN = 512  # tokens of a target that nobody gave


@dataclass(frozen=True, eq=False)
class Model:
    """A transformers model with its tokenizer, ready to be traced; made by `load_model` or `wrap_model`."""

    hf_model: Any
    tokenizer: Any
    layout: Layout
    origin: Origin
    info: ModelInfo = field(init=False)
    reader: Reader = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "info", describe(self.hf_model, self.tokenizer, self.layout, self.origin))
        vocabulary = vocabulary_of(self.hf_model)
        object.__setattr__(self, "reader", Reader(self.tokenizer, self.info.name, vocabulary, self.info.max_tokens))

    @property
    def name(self) -> str:
        return self.info.name

    @property
    def family(self) -> str:
        return self.info.family

    @property
    def vocabulary(self) -> int:
        """How many token ids the model reads."""
        return self.reader.vocabulary

    @property
    def has_vocabulary(self) -> bool:
        return self.info.has_vocabulary

    def trace(
        self,
        text: str | None = None,
        target: str | None = None,
        *,
        input_ids: Any = None,
        decoder_input_ids: Any = None,
        edits: Sequence[Edit] = (),
        chat_template: bool = False,
        compact: bool = False,
        progress: Progress | None = None,
    ) -> Trace:
        """Run the model once on a text, or on ids, and keep what its attention read.

        target          what the decoder of an encoder-decoder reads; None: what the model writes, greedily, at most
                        512 tokens of it
        edits           changes to this run alone; `()` is bit-identical to the plain model on the same kernel
        chat_template   wrap the text as a user's message in the model's own template; its tokens are marked
        compact         keep the 50 likeliest tokens a position in place of all logits (`Trace.compact`); where the
                        model allows it, without ever holding all of them
        progress        called with (layers done, layers in all) after each layer; raise from it to stop the run
        raises          TextError, ContextError, HeadError, EditNotApplied, OutOfMemory; Unsupported for edits on a
                        view-only model
        """
        source = self.encoded(text, input_ids, chat_template)
        kept = checked(edits)
        decoder = self.decoder_side(source, target, decoder_input_ids, kept)
        call = Call(places=self.layout.places, edits=kept, progress=progress)
        if compact and self.separate_head:
            states = self.forward(source, kept, call, bare=True).last_hidden_state
            with self.running(None):
                top = TopK.of_states(self.hf_model, states[0], KEPT_TOKENS)
            return replace(self.traces(call, None, [source], [])[0], top=top)
        outputs = self.forward(source, kept, call, decoder, output_attentions=not self.layout.exact)
        made = self.traces(call, outputs, [source], [decoder] if decoder else [])[0]
        return made.compact() if compact else made

    @cached_property
    def anatomy(self) -> Anatomy:
        """Where its heads write, found by structure (`attnviz.anatomy`); with the reason where that cannot be told."""
        return find(self.hf_model, self.layout)

    @cached_property
    def separate_head(self) -> bool:
        """Whether likeliest tokens can be found without ever holding all logits (`outputs.separate_head`)."""
        plain = self.info.family == "decoder" and self.info.has_vocabulary and self.layout.exact
        return plain and separate_head(self.hf_model, self.vocabulary)

    def generate(
        self,
        text: str | None = None,
        *,
        input_ids: Any = None,
        max_new_tokens: int = 20,
        seed: int | None = None,
        temperature: float = 1.0,
        edits: Sequence[Edit] = (),
        chat_template: bool = False,
        compact: bool = False,
        progress: Progress | None = None,
    ) -> Trace:
        """Let the model continue a text (or translate it), and trace prompt and continuation as one run.

        The trace equals that of the whole text given at once; `prompt_length` of its tokens were given. Stops at the
        model's end token. Greedy unless a seed is given; the edits hold while writing and in the trace.

        progress   called with (tokens written, most tokens) after each token; raise from it to stop
        raises     as `trace`, which also has `compact`; Unsupported for a model that does not generate
        """
        if not self.info.has_vocabulary or self.info.family == "encoder":
            raise Unsupported(f"{self.name} is an {self.info.family} without a next token: it cannot generate.")
        source = self.encoded(text, input_ids, chat_template)
        ids = self._written(source, checked(edits), Writing(max_new_tokens, seed, temperature, progress))
        if self.info.family == "encoder-decoder":
            made = self.trace(input_ids=source.ids, decoder_input_ids=ids, edits=edits, compact=compact)
            return replace(made, source_text=source.text, source_tokens=source.tokens, prompt_length=1)
        made = self.trace(input_ids=ids, edits=edits, compact=compact)
        given = len(source.ids)
        marked = tuple(replace(a, template=b.template) for a, b in zip(made.tokens, source.tokens, strict=False))
        return replace(made, tokens=marked + made.tokens[given:], prompt_length=given)

    def measure(
        self, metric: Metric, text: str | None = None, *, input_ids: Any = None, edits: Sequence[Edit] = ()
    ) -> float:
        """The outcome of one run, in the metric's unit; with `edits`, of the edited run."""
        if self.info.family == "encoder-decoder":
            raise MetricError(
                f"{self.name} is an encoder-decoder, and a metric reads one text; use trace(text, target).logits."
            )
        plan = metric.plan(self, self.encoded(text, input_ids, False).ids)
        self.reader.check_context(len(plan.ids))
        outputs = self.forward(self.reader.encode_ids(plan.ids), checked(edits))
        logits, _, embedding = self._results(outputs, 0)
        batch = Outputs(*(None if x is None else x[None] for x in (logits, embedding)))
        return float(plan.score(batch)[0])

    def encode(self, text: str, *, chat_template: bool = False) -> Encoded:
        """The tokens of a text as `trace` reads it; see `attnviz.encoding.Reader.encode`."""
        return self.reader.encode(text, chat_template=chat_template)

    def ids_of(self, text: str) -> list[int]:
        """The ids of a text as a continuation: no special tokens added."""
        return self.reader.ids_of(text)

    def embed(self, text: str) -> torch.Tensor:
        """The pooled embedding of a text, [d_model], unedited; MetricError where the model gives none."""
        embedding = self._results(self.forward(self.encode(text), ()), 0)[2]
        if embedding is None:
            raise MetricError(
                f"Similarity needs a model that turns a text into a vector, such as 'minilm'; {self.name} has a head "
                "instead. Use LogProb or LogitDiff."
            )
        return embedding

    def check_edits(self, edits: Sequence[Edit]) -> None:
        """Raise unless every edit is one that this model can apply."""
        for edit in edits:
            if not self.layout.exact:
                raise Unsupported(f"{self.name} is view-only, so '{edit.title}' cannot be applied: {self.info.reason}.")
            for head in edit.heads:
                if head.site is None and self.info.family == "encoder-decoder":
                    raise HeadError(f"{self.name} has attention at {', '.join(self.info.sites)}; give {head} a site.")
                self.info.check_head(head.layer, head.head, head.site)

    def encoded(self, text: str | None, input_ids: Any, chat_template: bool) -> Encoded:
        if input_ids is not None and text is None:
            return self.reader.encode_ids(input_ids)
        if text is None or input_ids is not None:
            raise InputError("Give either a text or input_ids, and not both.")
        return self.encode(text, chat_template=chat_template)

    def decoder_side(self, source: Encoded, target: str | None, ids: Any, edits: tuple[Edit, ...]) -> Encoded | None:
        """What an encoder-decoder's decoder reads: the target after the start token; greedy where none is given."""
        if self.info.family != "encoder-decoder":
            if target is not None or ids is not None:
                raise InputError(f"A target goes with an encoder-decoder; {self.name} is a {self.info.family}.")
            return None
        if target is not None and ids is not None:
            raise InputError("Give either a target or decoder_input_ids, and not both.")
        if ids is not None:
            return self.reader.encode_ids(ids)
        if target is not None:
            return self.reader.encode_target(target, start_token(self.hf_model))
        written = self._written(source, edits, Writing(_MOST_WRITTEN))
        end = self.hf_model.generation_config.eos_token_id
        ends = end if isinstance(end, list) else [end]
        # The end token is only ever predicted: nothing comes after it that would read it.
        return self.reader.encode_ids(written[:-1] if len(written) > 1 and written[-1] in ends else written)

    def _written(self, source: Encoded, edits: tuple[Edit, ...], writing: Writing) -> list[int]:
        """The ids of the whole sequence that the model writes; never more than it can read."""
        self.check_edits(edits)
        if self.info.max_tokens is not None:
            given = 1 if self.info.family == "encoder-decoder" else len(source.ids)
            self.reader.check_context(given + 1)
            writing = replace(writing, most=min(writing.most, self.info.max_tokens - given))
        inputs = self._inputs(source, None)
        inputs.pop("use_cache", None)
        with self.running(Call(places=self.layout.places, edits=edits, keep=False)):
            return continued(self.hf_model, inputs, writing)

    def _inputs(self, source: Encoded, decoder: Encoded | None) -> dict[str, Any]:
        device = self.hf_model.device
        inputs = {"input_ids": torch.tensor([source.ids], device=device)}
        if decoder is not None:
            inputs["decoder_input_ids"] = torch.tensor([decoder.ids], device=device)
        return forward_inputs(self.hf_model, inputs)

    def forward(
        self,
        source: Encoded,
        edits: tuple[Edit, ...],
        call: Call | None = None,
        decoder: Encoded | None = None,
        bare: bool = False,
        grad: bool = False,
        **keywords: Any,
    ) -> Any:
        """One forward call; `bare`: of the model without its head; `grad`: with the graph that a gradient needs."""
        self.check_edits(edits)
        keywords = {name: value for name, value in keywords.items() if value}
        forward = self.hf_model.base_model if bare else self.hf_model
        with self.running(call or Call(places=self.layout.places, edits=edits, keep=False), grad=grad):
            return forward(**self._inputs(source, decoder), **keywords)

    @contextmanager
    def running(self, call: Call | None, *, grad: bool = False) -> Iterator[None]:
        """A block in which the model may run as `call`, without gradients unless `grad`."""
        if self.hf_model.training:
            raise InputError(f"{self.name} is in training mode, where dropout makes every run another: call eval().")
        gradients = torch.enable_grad() if grad else torch.no_grad()
        with plain_out_of_memory(self.hf_model.device), gradients, run(call) if call else nullcontext():
            yield

    def traces(
        self,
        call: Call,
        outputs: Any,
        sources: Sequence[Encoded],
        decoders: Sequence[Encoded],
        masks: torch.Tensor | None = None,
    ) -> list[Trace]:
        """One trace for each text of a batch that ran as `call`; see `attnviz.tracing.traces`."""
        return traces(self, call, outputs, sources, decoders, masks)

    def _results(self, outputs: Any, row: int, kept: torch.Tensor | None = None) -> Results:
        return results(outputs, row, self.info, self.origin.pooling, kept)


def wrap_model(hf_model: Any, tokenizer: Any = None, *, name: str = "", revision: str = "", note: str = "") -> Model:
    """Make a transformers model that is already in memory traceable.

    The model is put in evaluation mode (dropout would make every pattern a lottery) and its attention is sent through
    the tap, over the kernel that it already uses, SDPA or eager; what it computes stays the same (a flash or flex
    kernel takes no tap: such a model runs on SDPA or eager from then on). It is checked first (see
    `attnviz.layout.probe`): a model that fails is view-only, or refused with Unsupported.

    tokenizer   its fast tokenizer; without one, pass input_ids instead of texts
    """
    if not isinstance(hf_model, PreTrainedModel):
        raise Unsupported(f"wrap_model takes a transformers PreTrainedModel; got {type(hf_model).__name__}.")
    hf_model.eval()
    name = name or str(getattr(hf_model.config, "_name_or_path", "")) or type(hf_model).__name__
    return Model(hf_model, tokenizer, probe(hf_model), Origin(name, revision, note))
