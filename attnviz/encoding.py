"""How a text becomes what one model reads: ids, tokens, the chat template, and the limits of its context."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from attnviz.errors import ContextError, InputError, TextError
from attnviz.text import check_text
from attnviz.tokens import Token, tokens_from_ids, tokens_from_text

_PLACEHOLDER = "\u2063attnviz\u2063"  # invisible separators: no template contains them


@dataclass(frozen=True)
class Encoded:
    """A text as the model reads it; `text` is the rendered template where one was used."""

    text: str
    ids: tuple[int, ...]
    tokens: tuple[Token, ...]


@dataclass(frozen=True, eq=False)
class Reader:
    """A tokenizer with the limits of its model.

    vocabulary   ids lie below it
    max_tokens   the longest input; None for no limit
    """

    tokenizer: Any
    name: str
    vocabulary: int
    max_tokens: int | None

    def encode(self, text: str, *, chat_template: bool = False) -> Encoded:
        """The tokens of a text, special ones added as the model's tokenizer does.

        chat_template   wrap the text as a user's message in the model's own template; its tokens are marked
        raises          TextError, ContextError; InputError without a tokenizer or template
        """
        if self.tokenizer is None:
            raise InputError(
                f"{self.name} comes without a tokenizer, so it reads no text: put the tokenizer's files beside "
                "the weights or, in Python, pass input_ids."
            )
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
        self.check_context(len(ids))
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

    def encode_target(self, text: str, start: int) -> Encoded:
        """A target as an encoder-decoder's decoder reads it: the start token, then the text without its end token."""
        check_text(text)
        if self.tokenizer is None:
            raise InputError(f"{self.name} was wrapped without a tokenizer; pass decoder_input_ids, not a target.")
        ids = [int(i) for i in self.tokenizer(text_target=text)["input_ids"]]
        if ids and ids[-1] == self.tokenizer.eos_token_id:
            ids.pop()
        return self.encode_ids([start, *ids])

    def encode_ids(self, ids: Any) -> Encoded:
        """The tokens of given ids, 1-D or [1, T]; raises InputError for another shape or ids beyond the vocabulary."""
        try:
            tensor = torch.as_tensor(ids)
        except (TypeError, ValueError, RuntimeError, OverflowError) as error:
            raise InputError(f"input_ids are whole numbers of shape [T] or [1, T]; got {ids!r:.80}.") from error
        if tensor.dim() == 2 and tensor.shape[0] == 1:
            tensor = tensor[0]
        if tensor.dim() != 1 or not len(tensor) or tensor.is_floating_point() or tensor.dtype == torch.bool:
            raise InputError(
                f"input_ids are whole numbers of shape [T] or [1, T], T at least 1; got {tuple(tensor.shape)}, "
                f"{tensor.dtype}. For a batch use attnviz.record."
            )
        kept = [int(i) for i in tensor]
        if min(kept) < 0 or max(kept) >= self.vocabulary:
            raise InputError(
                f"input_ids lie between 0 and {self.vocabulary - 1} for {self.name}; got {min(kept)} to {max(kept)}."
            )
        self.check_context(len(kept))
        text, tokens = tokens_from_ids(self.tokenizer, kept)
        return Encoded(text, tuple(kept), tokens)

    def tokens_of(self, ids: Sequence[int]) -> tuple[Token, ...]:
        """The tokens of ids as they are: what somebody else's code already ran is not ours to refuse."""
        return tokens_from_ids(self.tokenizer, ids)[1]

    def ids_of(self, text: str) -> list[int]:
        """The ids of a text as a continuation: no special tokens added."""
        if self.tokenizer is None:
            raise InputError(f"{self.name} was wrapped without a tokenizer; give token ids for texts.")
        if text.strip():  # a continuation may be a lone space
            check_text(text)
        return [int(i) for i in self.tokenizer(text, add_special_tokens=False)["input_ids"]]

    def check_context(self, length: int) -> None:
        limit = self.max_tokens
        if limit is not None and length > limit:
            raise ContextError(
                f"The text has {length:,} tokens, but {self.name} reads at most {limit:,}. "
                "Shorten the text, or choose a model with a longer context."
            )

    def _render(self, text: str) -> tuple[str, tuple[int, int]]:
        if not getattr(self.tokenizer, "chat_template", None):
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

    def decode(self, token_id: int) -> str:
        """The text of one token as it would be written, with its leading space; "#id" for a part of a character."""
        if self.tokenizer is None:
            return f"#{token_id}"
        text = str(self.tokenizer.decode([token_id], clean_up_tokenization_spaces=False))
        return f"#{token_id}" if "\ufffd" in text else text
