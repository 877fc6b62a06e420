"""How attention is brought to the marked words, as far as an address has no room for it: the draft `plan`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from attnviz.ui.drafts import Draft

Kind = Literal["steer", "beta", "alpha"]
MOST_BETA, MOST_BEST, MOST_CHARS = 5.0, 100, 50_000
_Positions = tuple[Annotated[int, Field(ge=0, le=999_999)], ...]


class Plan(Draft):
    """What stands beside `emphasised`, `ignored`, `strength` and `steered` of the Selection.

    kind            "steer" scales down what the other keys weigh; "beta" adds the words' weights to the scores, "alpha"
                    mixes them into the patterns
    half, quarter   positions with these weights, for beta and alpha; `text`: key of the text that they are of
    beta            nats that a weight of 1 adds
    alpha           the share that a head's own pattern keeps
    best            how many profiled heads are steered
    examples        JSON Lines that heads are profiled on; "" for the app's own
    """

    kind: Kind = "steer"
    text: Annotated[str, Field(max_length=64)] = ""
    half: _Positions = ()
    quarter: _Positions = ()
    beta: Annotated[float, Field(ge=0, le=MOST_BETA)] = 2.0
    alpha: Annotated[float, Field(ge=0, le=1)] = 0.5
    best: Annotated[int, Field(ge=1, le=MOST_BEST)] = 10
    examples: Annotated[str, Field(max_length=MOST_CHARS)] = ""
