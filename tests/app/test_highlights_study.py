"""A study on the Highlights page: what is held out, what counts, and what becomes of an outcome without words."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from streamlit.testing.v1 import AppTest

import attnviz
from attnviz import human
from attnviz.ui.components import marker as marker_module
from attnviz.ui.components.marker import marker
from attnviz.ui.highlights import asking, deleting, results
from attnviz.ui.highlights.study import BRUSHES, CUSTOM_STEP, Passage, Study, StudyFile
from attnviz.ui.session import stores
from pages import assert_fine, opened, params, said, words_of

TEXTS = (
    "The old lighthouse keeper painted the door red before breakfast.",
    "Our neighbour repaired a bicycle while her dog slept outside.",
    "A tall sailor bought fresh bread and two bottles of milk.",
    "My cousin wrote a long letter to the mayor of Pisa.",
)
MODELS: dict[str, attnviz.Model] = {}
QUESTION = "What colour was the door?"


@pytest.fixture(scope="module", autouse=True)
def _held(minilm: attnviz.Model) -> Iterator[None]:
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.LlamaConfig(vocab_size=30_522, max_position_embeddings=64, num_key_value_heads=2, **sizes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        decoder = attnviz.wrap_model(transformers.LlamaForCausalLM(config), minilm.tokenizer)
    MODELS.update({"minilm": minilm, "toy": decoder, "dates": attnviz.load_model("dates")})
    yield
    stores().traces.clear()


@pytest.fixture
def rankings(monkeypatch: pytest.MonkeyPatch) -> list[human.Ranking]:
    """Each ranking that a page shows."""
    seen: list[human.Ranking] = []
    shown: Callable[[human.Ranking], None] = results.verdict
    monkeypatch.setattr(results, "verdict", lambda ranking: (seen.append(ranking), shown(ranking)))
    return seen


def passage(at: int, *marks: int, text: str = "", **parts: Any) -> Passage:
    ready = {"revealed": True, "held": at % 2 == 1} | parts
    return Passage(text=text or TEXTS[at], marks=tuple((n, 1.0) for n in marks or (3, 4, 6)), **ready)


def shown(*passages: Passage, model: str = "minilm", at: int = 0, **parts: Any) -> AppTest:
    stores().models.put(model, MODELS[model])
    study = Study(passages=passages, at=at, **parts)
    return opened("highlights", model=model, study=stores().texts.put(study.model_dump_json()))


def roles(test: AppTest) -> list[str]:
    """What each text is for, as the list has it."""
    kinds = ("heads are chosen by it", "held out", "not in this ranking", "changed after the reveal, so in no ranking")
    lines = [line for line in (str(e.proto.body) for e in test.get("html")) if "words marked" in line]
    return [next(kind for kind in kinds if f"{kind})" in line) for line in lines]


def test_what_the_list_says_is_what_the_ranking_holds_out(rankings: list[human.Ranking]) -> None:
    four = [passage(at) for at in range(4)]
    assert_fine(shown(*four))
    assert rankings[-1].held == (1, 3)
    test = shown(*four[1:])  # the first one was removed
    assert_fine(test)
    assert roles(test) == ["held out", "heads are chosen by it", "held out"]
    assert rankings[-1].held == (0, 2)
    assert "held=[0, 2]" in "".join(block.value for block in test.code)


def test_a_text_that_drops_out_moves_no_other(rankings: list[human.Ranking], monkeypatch: pytest.MonkeyPatch) -> None:
    read = asking.measured

    def unread(ask: asking.Asked, one: Passage, title: str) -> human.Candidates:
        found = read(ask, one, title)
        return replace(found, human=0 * found.human) if one.text == TEXTS[0] else found

    monkeypatch.setattr(asking, "measured", unread)
    test = shown(*(passage(at) for at in range(4)), at=2)
    assert_fine(test)
    assert roles(test) == ["not in this ranking", "held out", "heads are chosen by it", "held out"]
    assert rankings[-1].held == (0, 2)
    test = shown(passage(0), passage(1), passage(3), at=1)  # all that are left would be held out
    assert roles(test) == ["not in this ranking", "heads are chosen by it", "held out"]
    assert rankings[-1].held == (1,)


def test_every_second_new_text_is_held_out_for_good() -> None:
    study = Study()
    for at in range(4):
        study = study.model_copy(update={"at": at}).having(passage(at, held=False))
    assert [one.held for one in study.passages] == [False, True, False, True]
    fewer = study.without(0)
    assert [one.held for one in fewer.passages] == [True, False, True]
    assert [one.held for one in fewer.model_copy(update={"at": 0}).having(passage(0)).passages] == [True, False, True]
    old = StudyFile(passages=tuple(passage(at, held=False) for at in range(4)))
    assert [one.held for one in old.split] == [False, True, False, True]
    assert StudyFile(passages=fewer.passages).split == fewer.passages


def test_a_text_that_was_changed_after_the_reveal_is_in_no_ranking(rankings: list[human.Ranking]) -> None:
    changed = passage(1, changed=True)
    test = shown(passage(0), changed, passage(2), passage(3))
    assert_fine(test)
    assert roles(test) == ["heads are chosen by it", roles(test)[1], "heads are chosen by it", "held out"]
    assert roles(test)[1] == "changed after the reveal, so in no ranking"
    assert [one.trace.text for one in rankings[-1].texts] == [TEXTS[0], TEXTS[2], TEXTS[3]]
    test = shown(passage(0), changed, passage(2), passage(3), at=1)
    assert_fine(test)
    assert [one.trace.text for one in rankings[-1].texts] == [TEXTS[1]]
    assert "No head is named from one text" in words_of(test.info)
    assert not test.success


def test_a_sentence_encoder_compares_the_text_with_the_question(rankings: list[human.Ranking]) -> None:
    test = shown(passage(0, 5, 6, 7))
    assert "highlights-delete" not in [button.key for button in test.button]
    assert "highlights-delete-best" not in [button.key for button in test.button]
    assert "Write a question: what counts is then the similarity to it." in said(test)
    test = shown(passage(0, 5, 6, 7, question=QUESTION))
    assert_fine(test)
    assert rankings[-1].texts[0].trace.text == TEXTS[0]
    assert "relevance" in set(rankings[-1].frame["name"])
    assert f'other="{QUESTION}"' in "".join(block.value for block in test.code)
    test.button(key="highlights-delete").click().run()
    assert_fine(test)
    table = next(one.value for one in test.dataframe if "words" in one.value)
    assert table["words"].tolist()[0] == "Your marked words"
    given = human.Marked(TEXTS[0], {5: 1, 6: 1, 7: 1}, query=9, other=QUESTION)
    wanted = human.faithful(MODELS["minilm"], given, rankings[-1].texts[0].words, n_random=3).frame
    np.testing.assert_allclose(table["lost without"].iloc[0], wanted["comprehensiveness"].iloc[0], atol=1e-5)


def test_words_of_the_best_heads_and_methods_are_deleted_over_all_texts(rankings: list[human.Ranking]) -> None:
    passages = [passage(0, question="Why?"), passage(1)]
    test = shown(*passages, model="toy")
    assert_fine(test)
    test.button(key="highlights-delete").click().run()
    assert_fine(test)
    assert "probability of" in said(test)
    test.button(key="highlights-delete-best").click().run()
    assert_fine(test)
    heads, others = [one.value for one in test.dataframe if "lost without" in one.value and "name" in one.value]
    ranking = rankings[-1]
    best = ranking.frame[ranking.frame["kind"] == "head"]["name"].tolist()
    assert heads["name"].tolist() == best
    assert len(best) == 4
    falls = []
    for one, found in zip(passages, ranking.texts, strict=True):
        last = max(t.word for t in found.trace.tokens if t.word is not None)
        scores = {best[0]: found.scores[[each.name for each in found.names].index(best[0])]}
        made = human.faithful(MODELS["toy"], one.marked(last), found.words, scores, n_random=1)
        falls.append(made.frame.iloc[1, 1:3].to_numpy(float))
    wanted = np.mean(falls, axis=0)
    np.testing.assert_allclose(heads.loc[0, list(deleting.LOST.values())].to_numpy(float), wanted, atol=1e-7)
    assert others[others["kind"] == "method"]["lost without"].notna().all()
    assert others[others["kind"] != "method"]["lost without"].isna().all()
    assert "mean fall of the probability over 2 texts" in said(test)


def test_a_chinese_passage_is_marked_word_by_word(rankings: list[human.Ranking]) -> None:
    text = "我们 在 北京 的 大学 里 看 书。"
    chips = Passage(text=text).chips
    red = [chip.number for chip in chips if chip.label in ("北", "京")]
    test = shown(passage(0, *red, text=text), language="zh")
    assert_fine(test)
    found = rankings[-1].texts[0]
    assert len(red) == int((found.human > 0).sum()) == 2
    assert "rarity" in set(rankings[-1].frame["name"])


def test_an_encoder_decoder_reads_the_text_as_keys_and_has_no_outcome_here(rankings: list[human.Ranking]) -> None:
    text = "the 3rd of May 1998"
    test = shown(passage(0, 3, text=text), model="dates")
    assert_fine(test)
    assert rankings[-1].texts[0].site == "cross"
    assert "deleting words leaves another question" in said(test)
    assert not {"highlights-delete", "highlights-delete-best"} & {button.key for button in test.button}


def test_an_explanation_can_be_judged_and_is_listed() -> None:
    test = shown(passage(0))
    test.button(key="highlights-feedback-up").click().run()
    next(button for button in test.button if button.label == "Keep it").click().run()
    assert_fine(test)
    assert params(test)["feedback"]
    table = next(one.value for one in test.dataframe if "verdict" in one.value)
    assert table[["verdict", "kind", "text", "model"]].to_numpy().tolist() == [
        ["up", "explanation", TEXTS[0], "minilm"]
    ]


@pytest.mark.parametrize(
    ("weights", "taken"),
    [
        ([0.15, 1], True),
        ([0.95, 0.5], True),
        ([0.05, 0], True),
        ([0.07, 0], False),
        ([1.05, 0], False),
        ([-0.5, 0], False),
    ],
)
def test_a_custom_brush_paints_in_steps(weights: list[float], taken: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    got: list[tuple[float, ...]] = []
    mounted: dict[str, Any] = {}
    monkeypatch.setattr(marker_module, "_mount", lambda **given: mounted.update(given))
    monkeypatch.setattr(marker_module, "sent", lambda key, name: {"weights": weights})
    marker(["a", "b"], [0, 0], key="k", brushes=BRUSHES, custom=CUSTOM_STEP, label="", on_mark=got.append)
    mounted["on_mark_change"]()
    assert got == ([tuple(weights)] if taken else [])
