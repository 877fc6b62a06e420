"""Colours that tell heads apart: on both pages, and for people with any of the common colour blindnesses."""

import itertools
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from attnviz.figures.palette import CATEGORICAL

PAGES = {"light": "#fbfbfd", "dark": "#14161d"}
# Linear RGB as it is seen in protanopia, deuteranopia (Viénot et al. 1999) and tritanopia (Machado et al. 2009).
SEEN = (
    np.eye(3),
    np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]]),
    np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]]),
    np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]]),
)
# Oklab (Ottosson 2020): distances in it are about those that people see.
CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
APART = 0.08  # where 1 lies between black and white


def linear(colour: str) -> NDArray[np.float64]:
    shares = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)


def luminance(colour: str) -> float:
    return float(linear(colour) @ [0.2126, 0.7152, 0.0722])


def distances(one: str, other: str) -> list[float]:
    """How far apart two colours are for each kind of eye."""
    labs = [[np.cbrt(np.clip(eye @ linear(c), 0, 1) @ CONES.T) @ LAB.T for c in (one, other)] for eye in SEEN]
    return [float(np.linalg.norm(a - b)) for a, b in labs]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_twelve_heads_are_told_apart_by_all_eyes(theme: Literal["light", "dark"]) -> None:
    colours = CATEGORICAL[theme]
    assert len(colours) == 12
    for one, other in itertools.combinations(colours, 2):
        # Okabe & Ito's blue and green are near each other in tritanopia, which about one in 10,000 has.
        both_theirs = {one, other} <= set(colours[:3])
        assert min(distances(one, other)) > (0.035 if both_theirs else APART), (one, other)
        assert distances(one, other)[0] > 1.5 * APART


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_each_stands_out_from_the_page(theme: Literal["light", "dark"]) -> None:
    page = luminance(PAGES[theme])
    for colour in CATEGORICAL[theme]:
        darker, lighter = sorted((page, luminance(colour)))
        assert (lighter + 0.05) / (darker + 0.05) >= 2.99, colour
