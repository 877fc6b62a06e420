"""A model that can be traced: any transformers model, its tokenizer, and where its attention is.

    text -> encode -> ids, tokens -> forward through the tap -> Trace

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
from attnviz.errors import ContextError, HeadError, InputError, MetricError, OutOfMemory, TextError, Unsupported
from attnviz.layout import Layout, forward_inputs, probe
from attnviz.metrics import Metric, Outputs
from attnviz.tap import Call, Progress, run
from attnviz.tokens import Token, check_text, tokens_from_ids, tokens_from_text
from attnviz.trace import LayerAttention, ModelInfo, Stored, Trace

_PLACEHOLDER = "\u2063attnviz\u2063"  # invisible separators: no template contains them


@dataclass(frozen=True)
class Encoded:
    """A text as the model reads it; `text` is the rendered template where one was used."""

    text: str
    ids: tuple[int, ...]
    tokens: tuple[Token, ...]


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

    def __post_init__(self) -> None:
        object.__setattr__(self, "info", _info(self))

    @property
    def name(self) -> str:
        return self.info.name

    @property
    def has_vocabulary(self) -> bool:
        return self.info.has_vocabulary

    def encode(self, text: str, *, chat_template: bool = False) -> Encoded:
        """The tokens of a text, special ones added as the model's tokenizer does.

        chat_template   wrap the text as a user's message in the model's own template; its tokens are marked
        raises          TextError, ContextError; InputError without a tokenizer or template
        """
        if self.tokenizer is None:
            raise InputError(f"{self.name} was wrapped without a tokenizer; pass input_ids instead of a text.")
        check_text(text)
        user_span = None
        if chat_template:
            text, user_span = self._render(text)
        encoding = self.tokenizer(
            text,
            add_special_tokens=not chat_template,
            return_offsets_mapping=self.tokenizer.is_fast,
            return_special_tokens_mask=True,
            verbose=False,
        )
        ids = [int(i) for i in encoding["input_ids"]]
        if not ids:
            raise TextError("The tokenizer makes no token of this text; type some letters.")
        self._check_context(len(ids))
        if not self.tokenizer.is_fast:
            return Encoded(text, tuple(ids), tokens_from_ids(self.tokenizer, ids)[1])
        tokens = tokens_from_text(
            self.tokenizer,
            text,
            ids=ids,
            offsets=encoding["offset_mapping"],
            special_mask=[bool(mark) for mark in encoding["special_tokens_mask"]],
            user_span=user_span,
        )
        return Encoded(text, tuple(ids), tokens)

    def encode_ids(self, ids: Any) -> Encoded:
        """The tokens of given ids, 1-D or [1, T]; raises InputError for another shape or ids beyond the vocabulary."""
        tensor = torch.as_tensor(ids)
        if tensor.dim() == 2 and tensor.shape[0] == 1:
            tensor = tensor[0]
        if tensor.dim() != 1 or not len(tensor) or tensor.is_floating_point() or tensor.dtype == torch.bool:
            raise InputError(
                f"input_ids are whole numbers of shape [T] or [1, T], T at least 1; got {tuple(tensor.shape)}, "
                f"{tensor.dtype}. For a batch use attnviz.record."
            )
        kept = [int(i) for i in tensor]
        if min(kept) < 0 or max(kept) >= self._vocabulary_size:
            raise InputError(
                f"input_ids lie between 0 and {self._vocabulary_size - 1} for {self.name}; "
                f"got {min(kept)} to {max(kept)}."
            )
        self._check_context(len(kept))
        return Encoded(*_flip(tokens_from_ids(self.tokenizer, kept), kept))

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

        edits      changes to this run alone; `()` is bit-identical to the plain model on the same kernel
        progress   called with (layers done, layers in all) after each layer; raise from it to stop the run
        raises     TextError, ContextError, HeadError, EditNotApplied, OutOfMemory; Unsupported for edits on a
                   view-only model
        """
        source = self._encoded(text, input_ids, chat_template)
        if self.info.family == "encoder-decoder":
            raise Unsupported(
                f"{self.name} is an encoder-decoder, which AttnViz {_VERSION_NOTE} cannot trace yet; use a decoder "
                "or an encoder."
            )
        if target is not None or decoder_input_ids is not None:
            raise InputError(f"A target goes with an encoder-decoder; {self.name} is a {self.info.family}.")
        outputs, attention = self._run(source, tuple(edits), progress)
        return self._build(source, outputs, attention, tuple(edits))

    def measure(
        self, metric: Metric, text: str | None = None, *, input_ids: Any = None, edits: Sequence[Edit] = ()
    ) -> float:
        """The outcome of one run, in the metric's unit; with `edits`, of the edited run."""
        encoded = self._encoded(text, input_ids, False)
        plan = metric.plan(self, encoded.ids)
        self._check_context(len(plan.ids))
        outputs = self._forward(plan.ids, tuple(edits))
        logits, _, embedding = self._heads_of(outputs)
        embedding = None if embedding is None else embedding[None]
        return float(plan.score(Outputs(logits=None if logits is None else logits[None], embedding=embedding))[0])

    def ids_of(self, text: str) -> list[int]:
        """The ids of a text as a continuation: no special tokens added."""
        if self.tokenizer is None:
            raise InputError(f"{self.name} was wrapped without a tokenizer; give token ids for texts.")
        check_text(text) if text.strip() else None
        return [int(i) for i in self.tokenizer(text, add_special_tokens=False)["input_ids"]]

    def embed(self, text: str) -> torch.Tensor:
        """The pooled embedding of a text, [d_model], unedited; MetricError where the model gives none."""
        embedding = self._heads_of(self._forward(self.encode(text).ids, ()))[2]
        if embedding is None:
            raise MetricError(f"Similarity needs a model without a head that pools its states; {self.name} is not one.")
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
        if (text is None) == (input_ids is None):
            raise InputError("Give either a text or input_ids, and not both.")
        if input_ids is not None:
            return self.encode_ids(input_ids)
        assert text is not None
        return self.encode(text, chat_template=chat_template)

    def _run(
        self, source: Encoded, edits: tuple[Edit, ...], progress: Progress | None
    ) -> tuple[Any, dict[str, dict[int, LayerAttention]]]:
        attention: dict[str, dict[int, LayerAttention]] = {site: {} for site in self.info.sites}
        if not self.layout.exact:
            outputs = self._forward(source.ids, edits, output_attentions=True)
            kept = [w for w in outputs.attentions if isinstance(w, torch.Tensor)]
            attention[self.info.sites[0]] = {layer: Stored(weights) for layer, weights in enumerate(kept)}
            return outputs, attention
        call = Call(places=self.layout.places, edits=edits, progress=progress)
        outputs = self._forward(source.ids, edits, call=call)
        for place, recorded in call.recorded:
            attention[place.site][place.layer] = recorded
        return outputs, attention

    def _forward(
        self, ids: Sequence[int], edits: tuple[Edit, ...], *, call: Call | None = None, **keywords: Any
    ) -> Any:
        self.check_edits(edits)
        inputs = forward_inputs(self.hf_model, {"input_ids": torch.tensor([list(ids)], device=self.hf_model.device)})
        call = call or Call(places=self.layout.places, edits=edits, keep=False)
        with _memory(self.hf_model.device), torch.no_grad(), run(call):
            return self.hf_model(**inputs, **keywords)

    def _build(self, source: Encoded, outputs: Any, attention: Any, edits: tuple[Edit, ...]) -> Trace:
        logits, class_logits, embedding = self._heads_of(outputs)
        return Trace(
            info=self.info,
            text=source.text,
            tokens=source.tokens,
            attention=attention,
            edits=edits,
            edit_titles=tuple(edit.title for edit in edits),
            raw_logits=logits,
            class_logits=class_logits,
            embedding=embedding,
            decode=None if self.tokenizer is None else _decoder(self.tokenizer),
        )

    def _heads_of(self, outputs: Any) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
        """(logits [position, vocab], class logits [class], embedding [d_model]) of the first text of a batch."""
        logits = getattr(outputs, "logits", None)
        if logits is not None:
            return (logits[0], None, None) if self.info.has_vocabulary else (None, logits[0], None)
        hidden = getattr(outputs, "last_hidden_state", None)
        if hidden is None:
            return None, None, None
        return None, None, hidden[0, 0] if self.origin.pooling == "cls" else hidden[0].mean(0)

    def _render(self, text: str) -> tuple[str, tuple[int, int]]:
        if not self.info.has_chat_template:
            raise InputError(f"{self.name} has no chat template; trace the plain text.")

        def render(content: str) -> str:
            message = [{"role": "user", "content": content}]
            return self.tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)

        rendered = render(text)
        prefix, found, suffix = render(_PLACEHOLDER).partition(_PLACEHOLDER)
        end = len(rendered) - len(suffix)
        if not found or not rendered.startswith(prefix) or not rendered.endswith(suffix) or end <= len(prefix):
            raise InputError(
                f"The chat template of {self.name} changes the text, so it cannot be marked; trace it plain."
            )
        return rendered, (len(prefix), end)

    def _check_context(self, length: int) -> None:
        limit = self.info.max_tokens
        if limit is not None and length > limit:
            raise ContextError(
                f"The text has {length:,} tokens, but {self.name} reads at most {limit:,}. "
                "Shorten the text, or choose a model with a longer context."
            )

    @property
    def _vocabulary_size(self) -> int:
        return self.hf_model.get_input_embeddings().num_embeddings


_VERSION_NOTE = "0.1"


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
    output = hf_model.get_output_embeddings()
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
        has_vocabulary=output is not None,
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


def _decoder(tokenizer: Any) -> Any:
    return lambda token_id: tokenizer.decode([token_id], clean_up_tokenization_spaces=False)


def _flip(text_tokens: tuple[str, tuple[Token, ...]], ids: list[int]) -> tuple[str, tuple[int, ...], tuple[Token, ...]]:
    return text_tokens[0], tuple(ids), text_tokens[1]


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
