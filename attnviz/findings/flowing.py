"""Evidence by a method of `attnviz.flow`: what share of a prediction it gives to a word, beside every other word.

A key of several words has a sum of shares: beside it stand all runs of as many other words.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from attnviz import flow
from attnviz.errors import InputError
from attnviz.findings.cases import Gathered, Read, keys_of, query_of
from attnviz.findings.figuring import Doubles
from attnviz.findings.records import Case, Measurement
from attnviz.flow import METHODS, Target
from attnviz.flow.mixing import Scores
from attnviz.models import Model
from attnviz.tap import Progress
from attnviz.text import words
from attnviz.tokens import Token
from attnviz.trace import Trace


def flow_share(model: Model, asked: Measurement, cases: Sequence[Case], progress: Progress | None) -> Read:
    """The share of all that a method gives to tokens which goes to the tokens of each case's key.

    query          a word of the text (of the target, where there is one) whose last token predicts; "": the last token
    answer, foil   what is predicted there, as `flow.Target` has it; "": the likeliest token. Without a vocabulary, the
                   answer is the second text
    Control: every other word of every case, by itself, or every run of as many words as the case's key has. A mean over
    cases is held against single words, which spread more than means: a word in one case may be high for being first.
    """
    if asked.what not in METHODS:
        raise InputError(f"A method is one of {', '.join(METHODS)}; got {asked.what!r:.60}.")

    def read(case: Case) -> tuple[float, Doubles]:
        """(share of the key, [word] shares of the others)."""
        explained = flow.explain(
            model, case.text, case.target or None, target=_target(model, case), methods=(asked.what,)
        )
        if asked.what in explained.refused:
            raise InputError(explained.refused[asked.what])
        return shares(explained.trace, explained.scores[asked.what], asked.what, case)

    gathered = Gathered(cases, progress)
    found = gathered.each(read)
    control = np.concatenate([others for one in found if one is not None for others in one[1:]])
    keys = {case.key.strip() for case in cases}
    key = keys.pop() if len(keys) == 1 else "its key"
    return Read(
        tuple(None if one is None else one[0] for one in found),
        gathered.reasons,
        control,
        controls_words(len(control), cases),
        "share",
        f"The share that {METHODS[asked.what].title} gives {key}",
    )


def controls_words(n: int, cases: Sequence[Case]) -> str:
    """What the controls of these cases are, in words."""
    texts = "the same text" if len(cases) == 1 else "the same texts"
    if any(len(words(case.key)) > 1 for case in cases):
        return f"{n} runs of as many other words of {texts}; their middle 95%"
    return f"{n} other words of {texts}, each by itself; their middle 95%"


def _target(model: Model, case: Case) -> Target:
    if not model.has_vocabulary:
        return Target(other=case.answer or None)
    query = -1
    if case.query.strip():
        source = model.encode(case.text)
        run = model.decoder_side(source, case.target or None, None, ()) or source
        query = query_of(run.tokens, run.text, case.query)
    return Target(query, case.answer or None, case.foil or None)


def shares(trace: Trace, scores: Scores, name: str, case: Case) -> tuple[float, Doubles]:
    """(share that a method gives the case's key, [run] shares of the others), of one run of the case's text.

    raises   InputError where the scores add up to no share, or the text has no such key
    """
    several = scores.source is not None
    text, tokens = (trace.source_text, trace.source_tokens) if several else (trace.text, trace.tokens)
    own = (scores.source if scores.source is not None else scores.text).double().cpu().numpy()
    total = float(own.sum()) + (float(scores.text.double().sum()) if several else 0.0)
    if not (total > 0 and np.isfinite(total)):
        raise InputError(
            f"{METHODS[name].title} gives the tokens of {case.text!r:.60} nothing that adds up to a share."
        )
    key = keys_of(tokens, text, case.key)
    return float(own[key].sum() / total), _others(tokens, own / total, set(key))


def _others(tokens: Sequence[Token], shares: Doubles, key: set[int]) -> Doubles:
    """[run], the shares of all runs of as many words as the key has, none of them a word of the key."""
    sums: dict[int, float] = {}
    for at, token in enumerate(tokens):
        if token.word is not None:
            sums[token.word] = sums.get(token.word, 0.0) + float(shares[at])
    mine = {tokens[at].word for at in key}
    runs = (range(first, first + len(mine)) for first in sorted(sums))
    return np.array([sum(sums[n] for n in run) for run in runs if all(n in sums and n not in mine for n in run)])
