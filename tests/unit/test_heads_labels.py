"""Labels: the largest margin over chance, and what becomes of them without the sink."""

import numpy as np
import pytest

from attnviz import Model, heads
from attnviz.errors import ShapeError
from attnviz.heads import DETECTORS, labels

NAMES = list(DETECTORS)


def values_of(*heads_of: tuple[dict[str, float], dict[str, float]]) -> np.ndarray:
    """[2, detector, 1, head] from what each head scores, 0.1 where nothing is said."""
    out = np.full((2, len(NAMES), 1, len(heads_of)), 0.1)
    for head, variants in enumerate(heads_of):
        for variant, said in enumerate(variants):
            for name, value in said.items():
                out[variant, NAMES.index(name), 0, head] = value
    out[1, NAMES.index("sink")] = np.nan
    return out


CHANCE = np.full((2, len(NAMES)), 0.1)


def test_the_label_is_the_largest_margin_over_chance() -> None:
    chance = CHANCE.copy()
    chance[:, NAMES.index("punctuation")] = 0.6
    found = labels(values_of(({"previous": 0.6, "punctuation": 0.7}, {"duplicate": 0.9})), chance)
    row = found.rows.iloc[0]
    assert (row["with sink"], row["without sink"]) == ("previous", "duplicate"), "0.7 is little where chance is 0.6"
    assert row["margin with sink"] == pytest.approx(0.5 / 0.9)
    assert row["margin without sink"] == pytest.approx(0.8 / 0.9)


def test_below_the_threshold_there_is_none() -> None:
    weak = values_of(({"previous": 0.4}, {"previous": 0.3}), ({"entropy": 1.0, "distance": 1.0}, {"entropy": 1.0}))
    found = labels(weak, CHANCE, threshold=0.3)
    assert found.rows["with sink"].tolist() == ["previous", "none"]
    assert found.rows["without sink"].tolist() == ["none", "none"]
    assert found.rows["margin without sink"].isna().all()
    assert labels(weak, CHANCE, threshold=0.2).rows["without sink"].tolist() == ["previous", "none"]


def test_the_share_of_labels_that_change_without_the_sink() -> None:
    found = labels(
        values_of(
            ({"sink": 0.9}, {"previous": 0.8}),
            ({"sink": 0.9}, {}),
            ({"previous": 0.9}, {"previous": 0.9}),
            ({"sink": 0.5, "previous": 0.4}, {"previous": 0.9}),
        ),
        CHANCE,
    )
    assert found.rows["with sink"].tolist() == ["sink", "sink", "previous", "sink"]
    assert found.rows["without sink"].tolist() == ["previous", "none", "previous", "previous"]
    assert found.changed == 0.75
    assert found.of_sink == 0.75


def test_an_interval_that_holds_chance_gives_no_label() -> None:
    values = values_of(({"previous": 0.9, "duplicate": 0.5}, {}))
    low = values.copy()
    low[0, NAMES.index("previous")] = 0.05
    assert labels(values, CHANCE).rows["with sink"].tolist() == ["previous"]
    low[0, NAMES.index("duplicate")] = 0.2
    assert labels(values, CHANCE, (low, values)).rows["with sink"].tolist() == ["duplicate"]


def test_without_intervals_nothing_is_labelled_and_no_share_is_said() -> None:
    values = values_of(({"sink": 0.9}, {"previous": 0.8}), ({"sink": 0.9}, {}))
    unknown = np.full_like(values, np.nan)
    found = labels(values, CHANCE, (unknown, unknown))  # over one text
    assert found.rows.empty
    assert np.isnan([found.changed, found.of_sink]).all()
    some = values - 0.05
    some[1, :, :, 1] = np.nan
    found = labels(values, CHANCE, (some, values))
    assert found.rows[["layer", "head"]].to_numpy().tolist() == [[0, 0]]
    assert (found.changed, found.of_sink) == (1, 1)
    values[1, :, :, 1] = np.nan  # a head of which nothing is left without the sink has its label with it
    assert labels(values, CHANCE, (some, values)).rows["without sink"].tolist() == ["previous", "none"]


def test_heads_that_are_not_there_have_no_row_and_layers_their_own_chance() -> None:
    values = np.concatenate([values_of(({"previous": 0.5}, {}), ({}, {}))] * 2, axis=2)
    values[:, :, 1, 1] = np.nan
    chance = np.repeat(CHANCE[..., None], 2, axis=-1)
    chance[:, NAMES.index("previous"), 1] = 0.5
    found = labels(values, chance).rows
    assert found[["layer", "head"]].to_numpy().tolist() == [[0, 0], [0, 1], [1, 0]]
    assert found["with sink"].tolist() == ["previous", "none", "none"]


def test_a_real_text_is_labelled(smollm2: Model) -> None:
    found = heads.detect(smollm2.trace("When Mary and John went to the store, John gave a drink to Mary."))
    said = labels(found.values, found.chance)
    assert len(said.rows) == 270
    assert said.of_sink > 0.3, "this model is known to rest on its first token"
    assert said.of_sink <= said.changed <= 1
    assert set(said.rows["without sink"]) <= {"none", "previous", "duplicate", "same_word", "punctuation"}


def test_labels_refuse_what_does_not_fit() -> None:
    with pytest.raises(ShapeError, match="layer, head"):
        labels(np.zeros((2, 3, 1, 1)), CHANCE)
    with pytest.raises(ShapeError, match="layer, head"):
        labels(np.zeros((2, len(NAMES), 1, 1)), np.zeros((1, len(NAMES))))
