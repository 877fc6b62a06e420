"""Display tokens, words and spans, from a tokenizer's offsets.

A span is a pair of character positions `[start, end)` in the source text (Python string indices). A "character" that
people read is an extended grapheme cluster (UAX #29), so tokens are shown by whole clusters, and tokens that share a
cluster show all of it and their place in it: `你 1/3`. The vocabulary's own marks (Ġ, ##, ▁) are never parsed.

A token that touches more than one cluster reads in order, with its place after each shared one: `␣👍 1/3` (a space and
the first third), `é 2/2 x`, `你 3/3 好 1/2`. `Token.part` is the first of these places. The plain spaces are
unambiguous, since a space of the text is shown as ␣.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import regex

from attnviz.errors import InputError, ShapeError
from attnviz.text import Span, visible, words

_CLUSTER = regex.compile(r"\r|\n|\X")  # ␍ and ↵ are read as two characters, though \r\n is one cluster
# A decoder that falls back on bytes writes one U+FFFD for each byte of an unfinished character, three at most.
_LOST = "\ufffd"
_MAX_LOST = 3
_MAX_WINDOW = 32


@dataclass(frozen=True, slots=True)
class Token:
    """One token as people read it.

    text: what to show, at least one visible character. id: its number in the vocabulary. span: characters `[start,
    end)` of the source text; (0, 0) for most special tokens, empty for a space that the tokenizer added. word: index
    into `words(source text)`; None for special tokens and for pure whitespace. special: not text, as [CLS]. template:
    from the chat template, not from the user. part: (1, 3) = first of three tokens sharing one character.
    """

    text: str
    id: int
    span: Span
    word: int | None
    special: bool
    template: bool = False
    part: tuple[int, int] | None = None


def tokens_from_text(
    tokenizer: Any,
    text: str,
    *,
    ids: Iterable[int],
    offsets: Iterable[Sequence[int]],
    special_mask: Iterable[int],
    user_span: Span | None = None,
) -> tuple[Token, ...]:
    """The tokens of one encoding of `text`.

    ids, offsets (pairs of character positions) and special_mask (1 for a special token) have one entry per token, as a
    fast tokenizer returns them for a single text. user_span: the user's part of `text` when `text` is a rendered chat
    template. Raises ShapeError when the three differ in length.
    """
    id_list = [int(i) for i in ids]
    spans = [(int(a), int(b)) for a, b in offsets]
    mask = [bool(m) for m in special_mask]
    if not len(id_list) == len(spans) == len(mask):
        raise ShapeError(
            f"Expected one offset and one special mark for each of {len(id_list)} ids, got {len(spans)} offsets and "
            f"{len(mask)} marks. Pass the three from the same encoding."
        )
    # The mask of a fast tokenizer marks only what its own post-processor added, not special tokens typed in the text
    # or rendered by a chat template. Those carry their own string as their source; [UNK] over a word does not.
    own = _special_strings(tokenizer)
    special = [
        m or (i in own and (a >= b or text[a:b].strip() == own[i].strip()))
        for i, (a, b), m in zip(id_list, spans, mask, strict=True)
    ]
    blank: dict[int, bool] = {}
    for k, (i, (a, b)) in enumerate(zip(id_list, spans, strict=True)):
        # A lone ▁ that the tokenizer put before a word comes with the span of the word's first character.
        if tokenizer is not None and not special[k] and a < b and spans[k + 1 : k + 2] and spans[k + 1][0] < b:
            if i not in blank:
                blank[i] = not _decode(tokenizer, [i]).strip()
            if blank[i] and text[a:b].strip():
                spans[k] = (a, a)
    readings = _readings(text, spans, special)
    word_spans = words(text)
    word_starts, word_ends = [a for a, _ in word_spans], [b for _, b in word_spans]

    tokens = []
    for i, (a, b), is_special, reading in zip(id_list, spans, special, readings, strict=True):
        word: int | None = None
        part = None
        if is_special:
            shown = visible(own.get(i) or _vocabulary_string(tokenizer, i)) or f"#{i}"
        elif reading is None:
            shown = _without_source(tokenizer, i)
        else:
            shown, part = reading
            following = bisect_right(word_ends, a)
            if following < len(word_starts) and word_starts[following] < b:
                word = following
        template = user_span is not None and _outside(a, b, user_span, is_special)
        tokens.append(Token(shown, i, (a, b), word, is_special, template, part))
    return tuple(tokens)


def tokens_from_ids(tokenizer: Any, ids: Iterable[int]) -> tuple[str, tuple[Token, ...]]:
    """The decoded text of `ids`, and their tokens with spans in it.

    Where the decoded text encodes to the same ids, these are that encoding's tokens. Otherwise spans come from
    decoding step by step: ids whose bytes do not complete a character share its span, and ids that add no text have an
    empty span. Without a tokenizer (None) each token reads `#<id>`. Raises InputError for a negative id.
    """
    id_list = [int(i) for i in ids]
    if any(i < 0 for i in id_list):
        raise InputError(f"Expected token ids of 0 or more, got {min(id_list)}. Remove it.")
    none = [0] * len(id_list)
    if tokenizer is None:
        names = [f"#{i}" for i in id_list]
        ends = [0]
        for name in names:
            ends.append(ends[-1] + len(name) + 1)
        spans = [(a, b - 1) for a, b in pairwise(ends)]
        text = " ".join(names)
        return text, tokens_from_text(None, text, ids=id_list, offsets=spans, special_mask=none)

    text = _decode(tokenizer, id_list)
    if getattr(tokenizer, "is_fast", False) and text:
        encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        if list(encoding["input_ids"]) == id_list:
            found = encoding["offset_mapping"]
            return text, tokens_from_text(tokenizer, text, ids=id_list, offsets=found, special_mask=none)
    text, spans = _decode_stepwise(tokenizer, id_list)
    return text, tokens_from_text(tokenizer, text, ids=id_list, offsets=spans, special_mask=none)


def _outside(a: int, b: int, user_span: Span, special: bool) -> bool:
    start, end = user_span
    if a < b:
        return b <= start or a >= end
    return special or not start <= a < end


def _readings(text: str, spans: list[Span], special: list[bool]) -> list[tuple[str, tuple[int, int] | None] | None]:
    """For each token its text and part, or None where it has no source text or is special."""
    starts = _cluster_starts(text, [edge for s, m in zip(spans, special, strict=True) if m for edge in s])
    size = len(text)
    cluster_of: Sequence[int] = range(size)
    if len(starts) != size + 1:
        cluster_of = [k for k, (a, b) in enumerate(pairwise(starts)) for _ in range(a, b)]

    touched: list[range] = []
    count = [0] * len(starts)
    for (a, b), is_special in zip(spans, special, strict=True):
        a, b = max(a, 0), min(b, size)
        clusters = range(0) if is_special or a >= b else range(cluster_of[a], cluster_of[b - 1] + 1)
        touched.append(clusters)
        for k in clusters:
            count[k] += 1
    shared = {k: n for k, n in enumerate(count) if n > 1 and _has_parts(text[starts[k] : starts[k + 1]])}

    seen = dict.fromkeys(shared, 0)
    readings: list[tuple[str, tuple[int, int] | None] | None] = []
    for clusters in touched:
        if not clusters:
            readings.append(None)
            continue
        first, last = clusters[0], clusters[-1]
        places = [k for k in clusters if k in shared] if shared else []
        if not places:
            readings.append((visible(text[starts[first] : starts[last + 1]]), None))
            continue
        shown, part, done = "", None, first
        for k in places:
            seen[k] += 1
            part = part or (seen[k], shared[k])
            gap = " " if shown else ""
            shown += f"{gap}{visible(text[starts[done] : starts[k + 1]])} {seen[k]}/{shared[k]}"
            done = k + 1
        if done <= last:
            shown += " " + visible(text[starts[done] : starts[last + 1]])
        readings.append((shown, part))
    return readings


def _cluster_starts(text: str, special_edges: list[int]) -> Sequence[int]:
    """Where clusters start, and the end of the text; the edges of special tokens cut clusters too."""
    if text.isascii():
        return range(len(text) + 1)
    starts = [match.start() for match in _CLUSTER.finditer(text)]
    edges = {e for e in special_edges if 0 < e < len(text)}.difference(starts)
    return [*(sorted({*starts, *edges}) if edges else starts), len(text)]


def _has_parts(cluster: str) -> bool:
    return not all(c.isspace() or unicodedata.category(c) == "Cc" for c in cluster)


def _special_strings(tokenizer: Any) -> dict[int, str]:
    added = getattr(tokenizer, "added_tokens_decoder", None) or {}
    named = set(getattr(tokenizer, "all_special_ids", None) or ())
    return {int(i): token.content for i, token in added.items() if token.special or i in named}


def _vocabulary_string(tokenizer: Any, token_id: int) -> str:
    return "" if tokenizer is None else str(tokenizer.convert_ids_to_tokens(token_id) or "")


def _without_source(tokenizer: Any, token_id: int) -> str:
    """What to show for a token that stands for no character of the text: its own decoding, or ␣."""
    if not _vocabulary_string(tokenizer, token_id):
        return f"#{token_id}"
    decoded = _decode(tokenizer, [token_id])
    return f"#{token_id}" if _LOST in decoded else visible(decoded) or "␣"


def _decode(tokenizer: Any, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def _decode_stepwise(tokenizer: Any, ids: list[int]) -> tuple[str, list[Span]]:
    """Text and spans from decoding growing windows of `ids`; a window is a few tokens, so the cost is linear.

    A window starts one step before the new tokens, because decoders treat the first token of a text differently.
    """
    settled = ""  # text that later tokens cannot change
    spans: list[Span] = []
    waiting: list[tuple[int, int]] = []  # tokens whose last character is unfinished, and how much was lost by then
    lost = ""  # what is decoded in place of unfinished characters
    low = start = 0  # the window is ids[low:]; ids[:start] are done
    known = 0  # characters that the window decodes from ids[low:start]
    origin = 0  # where in `settled` the text of ids[start:] begins
    for k in range(len(ids)):
        fresh = _decode(tokenizer, ids[low : k + 1])[known:]
        close = k + 1 == len(ids) or k - low >= _MAX_WINDOW
        tail = 0 if close else min(len(fresh) - len(fresh.rstrip(_LOST)), _MAX_LOST)
        before = len(settled)
        settled += fresh[before - origin : len(fresh) - tail]
        begin = before
        if waiting and len(settled) > before:
            # Of what was lost, the leading characters that still are will never be completed.
            now = settled[before : before + len(lost)]
            gone = len(now) - len(now.lstrip(_LOST))
            previous = 0
            for w, length in waiting:
                at = before + min(previous, length - 1, gone)
                spans[w] = (at if spans[w][0] == before else spans[w][0], before + min(length - 1, gone) + 1)
                previous = length
            begin = max(before + min(previous, gone, len(settled) - before - 1), spans[-1][0])
            waiting = []
        spans.append((begin, max(begin, len(settled))))
        lost = fresh[len(fresh) - tail :]
        if tail:
            waiting.append((k, tail))
        elif fresh or close:
            low, start, origin = start, k + 1, len(settled)
            known = len(_decode(tokenizer, ids[low:start]))
    return settled, spans
