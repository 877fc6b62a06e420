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

from attnviz import replacing
from attnviz.anatomy import Anatomy, find
from attnviz.edits import Edit, checked
from attnviz.encoding import Encoded, Reader
from attnviz.errors import InputError, MetricError, Unsupported
from attnviz.generation import Writing
from attnviz.info import ModelInfo, Origin, describe
from attnviz.layout import Layout, forward_inputs, probe, start_token
from attnviz.measuring import measure
from attnviz.memory import plain_out_of_memory
from attnviz.metrics import Metric
from attnviz.outputs import TopK, results, separate_head, vocabulary_of
from attnviz.tap import Call, Progress, run
from attnviz.trace import KEPT_TOKENS, Trace
from attnviz.tracing import traces
from attnviz.writing import without_end, write

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
    def labels(self) -> tuple[str, ...]:
        """The classes that it sorts texts into, in the order of its logits; () where it does not."""
        sorts = not self.has_vocabulary and "SequenceClassification" in type(self.hf_model).__name__
        names = self.hf_model.config.id2label if sorts else {}
        return tuple(str(names[number]) for number in sorted(names))

    @property
    def mask_id(self) -> int | None:
        """The token that stands for one to be filled in; None where the tokenizer has none."""
        return getattr(self.tokenizer, "mask_token_id", None)

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
        return self._traced(source, decoder, Call(self.layout.places, kept, progress=progress), compact)

    def _traced(self, source: Encoded, decoder: Encoded | None, call: Call, compact: bool) -> Trace:
        kept = tuple(call.edits)
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
        model's end token. Greedy unless a seed is given; the edits hold while writing and in the trace, those tied to
        tokens (positions, a donor, edges) at what was given alone.

        progress   called with (tokens written, most tokens) after each token; raise from it to stop
        raises     as `trace`, which also has `compact`; Unsupported for a model that does not generate
        """
        if not self.info.has_vocabulary or self.info.family == "encoder":
            raise Unsupported(f"{self.name} is an {self.info.family} without a next token: it cannot generate.")
        source = self.encoded(text, input_ids, chat_template)
        kept = checked(edits)
        ids, bound = write(self, source, kept, Writing(max_new_tokens, seed, temperature, progress))
        call = Call(self.layout.places, kept, bound=bound)
        whole = self.reader.encode_ids(ids)
        titles = tuple(edit.title for edit in bound)
        if self.info.family == "encoder-decoder":
            made = self._traced(source, whole, call, compact)
            return replace(made, edit_titles=titles, prompt_length=1)
        made = self._traced(whole, None, call, compact)
        given = len(source.ids)
        marked = tuple(replace(a, template=b.template) for a, b in zip(made.tokens, source.tokens, strict=False))
        return replace(made, tokens=marked + made.tokens[given:], edit_titles=titles, prompt_length=given)

    def measure(
        self,
        metric: Metric,
        text: str | None = None,
        *,
        target: str | None = None,
        input_ids: Any = None,
        decoder_input_ids: Any = None,
        edits: Sequence[Edit] = (),
    ) -> float:
        """The outcome of one run, in the metric's unit; with `edits`, of the edited run.

        target   of an encoder-decoder, what its decoder reads, and needed but for metrics of what it writes itself
        A metric may read further than the text (LogProb's answer): edits tied to tokens act on the text alone.
        """
        kept = checked(edits)
        source = self.encoded(text, input_ids, False)
        given = target is not None or decoder_input_ids is not None
        decoder = self.decoder_side(source, target, decoder_input_ids, kept) if given else None
        return measure(self, metric, source, decoder, kept)

    def written(self, source: Encoded, edits: Sequence[Edit] = (), *, most: int) -> list[int]:
        """The ids that the model writes greedily, `most` at most, without what was given and without the end token."""
        ids, _ = write(self, source, checked(edits), Writing(most))
        return without_end(self.hf_model, ids[1 if self.info.family == "encoder-decoder" else len(source.ids) :])

    def encode(self, text: str, *, chat_template: bool = False) -> Encoded:
        """The tokens of a text as `trace` reads it; see `attnviz.encoding.Reader.encode`."""
        return self.reader.encode(text, chat_template=chat_template)

    def ids_of(self, text: str) -> list[int]:
        """The ids of a text as a continuation: no special tokens added."""
        return self.reader.ids_of(text)

    def embed(self, text: str) -> torch.Tensor:
        """The pooled embedding of a text, [d_model], unedited; MetricError where the model gives none."""
        embedding = results(self.forward(self.encode(text), ()), 0, self.info, self.origin.pooling)[2]
        if embedding is None:
            raise MetricError(
                f"Similarity needs a model that turns a text into a vector, such as 'minilm'; {self.name} has a head "
                "instead. Use LogProb or LogitDiff."
            )
        return embedding

    def check_edits(self, edits: Sequence[Edit]) -> None:
        """Raise unless every edit is one that this model can apply."""
        replacing.check(self.info, edits)

    def ready(
        self, edits: Sequence[Edit], source: Encoded, decoder: Encoded | None = None, *, prompt: bool = False
    ) -> tuple[Edit, ...]:
        """The edits bound to a run: see `attnviz.replacing.ready`; HeadError and Unsupported as `check_edits`."""
        self.check_edits(edits)
        return replacing.ready(self, edits, source, decoder, prompt=prompt)

    def encoded(self, text: str | None, input_ids: Any, chat_template: bool) -> Encoded:
        if input_ids is not None and text is None:
            return self.reader.encode_ids(input_ids)
        if text is None or input_ids is not None:
            raise InputError("Give either a text or input_ids, and not both.")
        return self.encode(text, chat_template=chat_template)

    def decoder_side(
        self, source: Encoded, target: str | None, ids: Any, edits: tuple[Edit, ...], *, most: int = _MOST_WRITTEN
    ) -> Encoded | None:
        """What an encoder-decoder's decoder reads: the target after the start token; None: what the model writes,
        greedily, `most` tokens of it."""
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
        written, _ = write(self, source, edits, Writing(most))
        # The end token is only ever predicted: nothing comes after it that would read it.
        return self.reader.encode_ids(written[:1] + without_end(self.hf_model, written[1:]))

    def inputs(self, source: Encoded, decoder: Encoded | None) -> dict[str, Any]:
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
        call = call or Call(self.layout.places, edits, keep=False)
        if call.bound is None:
            call.bound = self.ready(call.edits, source, decoder)
        keywords = {name: value for name, value in keywords.items() if value}
        forward = self.hf_model.base_model if bare else self.hf_model
        with self.running(call, grad=grad):
            return forward(**self.inputs(source, decoder), **keywords)

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
