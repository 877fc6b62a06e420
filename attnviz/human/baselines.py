"""What may explain a person's marks without any attention: a word's length, rarity, place and surprise.

Each is one number a word, larger for what people are known to look at more. An explanation that does not beat these
has not shown that the model sees what the person sees.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import wordfreq

from attnviz.errors import InputError
from attnviz.flow.variants import Variant, Variants
from attnviz.human.agreement import Doubles
from attnviz.human.words import Words
from attnviz.models import Model
from attnviz.tap import Progress
from attnviz.text import words as words_of_text
from attnviz.trace import Trace

BASELINES: Mapping[str, str] = {
    "length": "The number of letters.",
    "rarity": "Minus the base-10 logarithm of how often the word stands in a billion words of its language.",
    "late": "The place in the text, later words more.",
    "early": "The place in the text, earlier words more.",
    "surprisal": "Minus the log-probability that the model gives the word's tokens, in nats.",
}
_CHUNK = 64
_OWN_SPLITTER = ("ja", "ko", "zh")  # which the library splits by packages that are not here


def baselines(
    model: Model,
    trace: Trace,
    words: Words,
    *,
    site: str | None = None,
    language: str = "en",
    progress: Progress | None = None,
) -> dict[str, Doubles]:
    """Every baseline that the model and the language can give: name -> [word], finite.

    trace, words, site   a run and the words of one of its sites' keys
    language             for rarity, as `languages()` has them; None of them where it is not there
    progress             of a masked encoder's surprisal, called with (runs done, runs in all); raise from it to stop

    A word for which surprisal says nothing, as the first of a text with no start token, takes the median of the others.
    """
    text = trace.texts(site)[1]
    places = np.arange(len(words), dtype=float)
    found = {"length": lengths(words, text), "late": places, "early": -places}
    if language in languages():
        found["rarity"] = rarity(words, text, language)
    surprise = surprisal(model, trace, words, progress=progress)
    if surprise is not None and np.isfinite(surprise).any():
        found["surprisal"] = np.where(np.isfinite(surprise), surprise, np.nanmedian(surprise))
    return {name: found[name] for name in BASELINES if name in found}


def lengths(words: Words, text: str) -> Doubles:
    """[word], characters that are letters, digits or marks upon them."""
    return np.array([float(sum(c.isalnum() for c in text[a:b])) for a, b in words.spans])


def rarity(words: Words, text: str, language: str = "en") -> Doubles:
    """[word], minus log10 of the frequency per billion words in `wordfreq` (Speer 2022); 0 for a word unknown to it.

    Of several words in one token (Han characters) the rarest counts. A word of parts that the library splits is as
    frequent as it says of them together. Japanese, Korean and Chinese words are looked up as they stand.
    raises   InputError for a language that the library does not have
    """
    if language not in languages():
        raise InputError(f"There are word frequencies for {', '.join(sorted(languages()))}; got {language!r}.")
    spans = words_of_text(text)
    pieces = [[text[slice(*spans[number])] for number in numbers] for numbers in words.covers]
    return np.array([max(-_zipf(piece, language) for piece in several) for several in pieces])


def languages() -> frozenset[str]:
    """Languages with word frequencies, by ISO code."""
    return frozenset(wordfreq.available_languages())


def surprisal(model: Model, trace: Trace, words: Words, *, progress: Progress | None = None) -> Doubles | None:
    """[word], minus log p of the word's tokens in nats; None where the model does not predict them.

    A decoder gives each token after those before it; the first of a text has none, NaN. A masked encoder gives each
    token with it alone masked (pseudo-log-likelihood, Salazar et al. 2020, arXiv 1910.14659), which for a word of
    several tokens is too small, since the others tell.
    """
    if not model.has_vocabulary or model.family == "encoder-decoder":
        return None
    if model.family == "decoder":
        return words.sum(_before(trace, trace.input_ids))
    return None if model.mask_id is None else words.sum(_masked(model, trace, words, progress))


def _before(trace: Trace, ids: list[int]) -> torch.Tensor:
    """[token], of a decoder."""
    logits = trace.logits
    assert logits is not None
    out = torch.full((len(ids),), torch.nan, dtype=torch.float64)
    answers = torch.tensor(ids[1:], device=logits.device)
    for first in range(0, len(answers), _CHUNK):
        part = slice(first, min(first + _CHUNK, len(answers)))
        rows = logits[part].float()
        out[part.start + 1 : part.stop + 1] = -rows.log_softmax(-1).gather(1, answers[part, None])[:, 0].double().cpu()
    return out


def _masked(model: Model, trace: Trace, words: Words, progress: Progress | None) -> torch.Tensor:
    """[token], of a masked encoder; NaN for tokens of no word."""
    ids, mask = tuple(trace.input_ids), model.mask_id
    assert mask is not None
    places = [i for start, end in words.tokens for i in range(start, end)]
    masked = [Variant((*ids[:i], mask, *ids[i + 1 :]), i, i) for i in places]
    out = torch.full((len(ids),), torch.nan, dtype=torch.float64)
    for at, logits in Variants(model, Variant(ids, 0)).run(masked, progress):
        out[places[at]] = -float(logits.float().log_softmax(-1)[ids[places[at]]])
    return out


def _zipf(piece: str, language: str) -> float:
    """log10 of the frequency per billion; 0 for an unknown word."""
    if language not in _OWN_SPLITTER:
        return wordfreq.zipf_frequency(piece, language)
    frequency = wordfreq.get_frequency_dict(language).get(piece.casefold(), 0.0)
    return wordfreq.freq_to_zipf(frequency) if frequency else 0.0
