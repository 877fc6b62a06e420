"""A model that can be traced: any transformers model, its tokenizer, and where its attention is.

    text -> Reader -> ids, tokens -> forward through the tap -> Trace

A Model is shared: nothing that a call does stays on it. It does not know where models come from (`attnviz.catalogue`).
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from attnviz.edits import Edit
from attnviz.encoding import Encoded, Reader
from attnviz.errors import HeadError, InputError, MetricError, OutOfMemory, Unsupported
from attnviz.layout import ATTENTIONS, Layout, forward_inputs, probe
from attnviz.metrics import Metric, Outputs
from attnviz.tap import Call, Progress, run
from attnviz.trace import LayerAttention, ModelInfo, Stored, Trace


@dataclass(frozen=True)
class Origin:
    """Where a model came from, for captions."""

    name: str = ""
    revision: str = ""
    note: str = ""
    pooling: str = "mean"


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
        object.__setattr__(self, "info", _info(self))
        vocabulary = self.hf_model.get_input_embeddings().num_embeddings
        object.__setattr__(self, "reader", Reader(self.tokenizer, self.info.name, vocabulary, self.info.max_tokens))

    @property
    def name(self) -> str:
        return self.info.name

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
        progress: Progress | None = None,
    ) -> Trace:
        """Run the model once on a text, or on ids, and keep what its attention read.

        edits           changes to this run alone; `()` is bit-identical to the plain model on the same kernel
        chat_template   wrap the text as a user's message in the model's own template; its tokens are marked
        progress        called with (layers done, layers in all) after each layer; raise from it to stop the run
        raises          TextError, ContextError, HeadError, EditNotApplied, OutOfMemory; Unsupported for edits on a
                        view-only model
        """
        source = self._encoded(text, input_ids, chat_template)
        if self.info.family == "encoder-decoder":
            raise Unsupported(f"{self.name} is an encoder-decoder; this version traces decoders and encoders only.")
        if target is not None or decoder_input_ids is not None:
            raise InputError(f"A target goes with an encoder-decoder; {self.name} is a {self.info.family}.")
        kept = tuple(edits)
        call = Call(places=self.layout.places, edits=kept, progress=progress)
        outputs = self._forward(source.ids, kept, call, output_attentions=not self.layout.exact)
        logits, class_logits, embedding = self._results(outputs)
        return Trace(
            info=self.info,
            text=source.text,
            tokens=source.tokens,
            attention=self._attention(call, outputs),
            edits=kept,
            edit_titles=tuple(edit.title for edit in kept),
            raw_logits=logits,
            class_logits=class_logits,
            embedding=embedding,
            decode=self.reader.decode,
        )

    def measure(
        self, metric: Metric, text: str | None = None, *, input_ids: Any = None, edits: Sequence[Edit] = ()
    ) -> float:
        """The outcome of one run, in the metric's unit; with `edits`, of the edited run."""
        plan = metric.plan(self, self._encoded(text, input_ids, False).ids)
        self.reader.check_context(len(plan.ids))
        logits, _, embedding = self._results(self._forward(plan.ids, tuple(edits)))
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
        embedding = self._results(self._forward(self.encode(text).ids, ()))[2]
        if embedding is None:
            raise MetricError(
                f"Similarity needs a model that turns a text into a vector, such as 'minilm'; {self.name} has a head "
                "instead. Use LogProb or LogitDiff."
            )
        return embedding

    def check_edits(self, edits: Sequence[Edit]) -> None:
        """Raise unless every edit is one that this model can apply."""
        for edit in edits:
            if not isinstance(edit, Edit):
                raise InputError(f"edits is a sequence of attnviz.edits values; got {edit!r}.")
            if not self.layout.exact:
                raise Unsupported(f"{self.name} is view-only, so '{edit.title}' cannot be applied: {self.info.reason}.")
            for head in edit.heads:
                if head.site is None and self.info.family == "encoder-decoder":
                    raise HeadError(f"{self.name} has attention at {', '.join(self.info.sites)}; give {head} a site.")
                self.info.check_head(head.layer, head.head, head.site)

    def _encoded(self, text: str | None, input_ids: Any, chat_template: bool) -> Encoded:
        if input_ids is not None and text is None:
            return self.reader.encode_ids(input_ids)
        if text is None or input_ids is not None:
            raise InputError("Give either a text or input_ids, and not both.")
        return self.encode(text, chat_template=chat_template)

    def _forward(self, ids: Sequence[int], edits: tuple[Edit, ...], call: Call | None = None, **keywords: Any) -> Any:
        self.check_edits(edits)
        if self.hf_model.training:
            raise InputError(f"{self.name} is in training mode, where dropout makes every run another: call eval().")
        inputs = forward_inputs(self.hf_model, {"input_ids": torch.tensor([list(ids)], device=self.hf_model.device)})
        keywords = {name: value for name, value in keywords.items() if value}
        call = call or Call(places=self.layout.places, edits=edits, keep=False)
        with _memory(self.hf_model.device), torch.no_grad(), run(call):
            return self.hf_model(**inputs, **keywords)

    def _attention(self, call: Call, outputs: Any) -> dict[str, dict[int, LayerAttention]]:
        """By site and layer, what was recorded; of a view-only model, the attentions that it returned."""
        attention: dict[str, dict[int, LayerAttention]] = {site: {} for site in self.info.sites}
        for place, recorded in call.recorded:
            attention[place.site][place.layer] = recorded
        for site in () if self.layout.exact else self.info.sites:
            returned = next(filter(None, (getattr(outputs, name, None) for name in ATTENTIONS[site])))
            weights = (w for w in returned if isinstance(w, torch.Tensor))
            attention[site] = {layer: Stored(w) for layer, w in zip(self.layout.layers[site], weights, strict=True)}
        return attention

    def _results(self, outputs: Any) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
        """(logits [position, vocab], class logits [class], embedding [d_model]) of the first text of a batch."""
        logits = getattr(outputs, "logits", None)
        if logits is not None:
            return (logits[0], None, None) if self.info.has_vocabulary else (None, logits[0], None)
        hidden = getattr(outputs, "last_hidden_state", None)
        if hidden is None:
            return None, None, None
        return None, None, hidden[0, 0] if self.origin.pooling == "cls" else hidden[0].mean(0)


def wrap_model(hf_model: Any, tokenizer: Any = None, *, name: str = "", revision: str = "", note: str = "") -> Model:
    """Make a transformers model that is already in memory traceable.

    The model is put in evaluation mode (dropout would make every pattern a lottery) and its attention is sent through
    the tap, over the kernel that it already uses; what it computes stays the same. It is checked first (see
    `attnviz.layout.probe`): a model that fails is view-only, or refused with Unsupported.

    tokenizer   its fast tokenizer; without one, pass input_ids instead of texts
    """
    from transformers import PreTrainedModel

    if not isinstance(hf_model, PreTrainedModel):
        raise Unsupported(f"wrap_model takes a transformers PreTrainedModel; got {type(hf_model).__name__}.")
    hf_model.eval()
    name = name or str(getattr(hf_model.config, "_name_or_path", "")) or type(hf_model).__name__
    return Model(hf_model, tokenizer, probe(hf_model), Origin(name, revision, note))


def _info(model: Model) -> ModelInfo:
    layout, hf_model = model.layout, model.hf_model
    config = hf_model.config.get_text_config()
    several = layout.family == "encoder-decoder"
    site = layout.sites[0]
    return ModelInfo(
        name=model.origin.name,
        family=layout.family,
        sites=layout.sites,
        n_layers=dict(layout.n_layers) if several else layout.n_layers[site],
        n_heads=dict(layout.n_heads) if several else layout.n_heads[site],
        n_kv_heads=dict(layout.n_kv_heads) if several else layout.n_kv_heads[site],
        d_head=layout.d_head,
        d_model=int(getattr(config, "hidden_size", None) or hf_model.get_input_embeddings().embedding_dim),
        device=str(hf_model.device),
        dtype=str(hf_model.dtype).removeprefix("torch."),
        layers=dict(layout.layers),
        model_type=str(hf_model.config.model_type),
        revision=model.origin.revision,
        note=model.origin.note,
        kernel=layout.kernel,
        status="exact" if layout.exact else "view-only",
        reason=layout.reason,
        max_tokens=_max_tokens(hf_model, config),
        n_parameters=sum(p.numel() for p in hf_model.parameters()),
        has_vocabulary=hf_model.get_output_embeddings() is not None,
        has_chat_template=bool(getattr(model.tokenizer, "chat_template", None)),
    )


def _max_tokens(hf_model: Any, config: Any) -> int | None:
    """The number of positions the model has; relative positions (T5) have no end."""
    for name in ("max_position_embeddings", "n_positions", "n_ctx"):
        value = getattr(config, name, None)
        if isinstance(value, int) and 0 < value < 10**9 and "t5" not in str(config.model_type):
            # RoBERTa's family keeps the first positions, up to the padding id, for itself.
            table = next((m for n, m in hf_model.named_modules() if n.endswith("embeddings.position_embeddings")), None)
            reserved = getattr(table, "padding_idx", None)
            return value - reserved - 1 if isinstance(reserved, int) else value
    return None


@contextmanager
def _memory(device: torch.device) -> Iterator[None]:
    """Turn running out of memory into an error that says so, with what was cached released."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "can't allocate memory" not in str(error):
            raise
        release_memory()
        raise OutOfMemory(
            f"There is not enough memory on {device} for this text. Shorten it, choose a smaller model, or load the "
            'model with device="cpu".'
        ) from None


def release_memory() -> None:
    """Give unused memory back to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()
