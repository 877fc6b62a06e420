"""Thirty texts that a reader of any script might bring, by name."""

from typing import Any

# Each is one token in both embedded vocabularies, so that a text's length can be chosen.
_WORDS = ["the", "man", "saw", "a", "big", "house", "and", "went", "to", "his", "city", "for", "one", "year"]

TEXTS = {
    "english": "When Mary and John went to the store, John gave a drink to",
    "question": "Why does the attention of so many heads rest on the first token?",
    "long english": (
        "The keeper of the lighthouse wrote down the weather every morning. On Tuesday the fog came in from the west, "
        "and he wrote: fog. On Wednesday the fog was still there, and he wrote: fog, again. On Thursday a ship that "
        "nobody had expected came out of it, with all its lamps lit, and he put his pencil away and went down to the "
        "harbour to see whether the people on board knew what day it was."
    ),
    "one token": "a",
    "two words": "Hello world",
    "german": "Die Größe der Bäume überraschte alle, die früher hier gewohnt hatten.",
    "french": "L'été dernier, j'ai goûté un œuf à la coque près de la forêt.",
    "chinese": "你好，世界。我喜欢在下雨的时候读书。",
    "japanese": "日本語のテキスト、カタカナとひらがな。猫が窓から外を見ている。",
    "korean": "한국어 문장도 읽을 수 있어야 합니다.",
    "arabic": "مرحبا بالعالم، كيف حالك اليوم؟",
    "hebrew": "שלום עולם, מה שלומך?",
    "hindi": "हिन्दी में लिखा हुआ एक छोटा वाक्य।",
    "thai": "สวัสดีชาวโลก วันนี้อากาศดี",
    "russian": "Москва ночью светится так, что звёзд не видно.",
    "greek": "Η γάτα κοιμάται δίπλα στο παράθυρο.",
    "emoji": "I like 🍕 and 🎸, but not 🐍!",
    "joined emoji": "👩‍👩‍👧‍👦 met 🏳️‍🌈 and 👍🏽 in 🇨🇭",
    "combining marks": "Z̀́̂͠algo e\u0301crit cafe\u0301",
    "code": "def f(x):\n\tif x > 0:\n\t\treturn x ** 2\n\treturn None\n",
    "json": '{"name": "head", "layers": [1, 2, 3], "ok": true}',
    "line ends": "first line\r\nsecond line\n\n\nafter a gap\t\tand tabs",
    "punctuation": "?!... --- ((([[{{;;:,,}}]]))) ~`^",
    "numbers": "3.14159 2,718 1e-9 0x1F 50% 1/2 2024-02-29 -273.15",
    "spaces": "   many    spaces   here   ",
    "repeated": "buffalo buffalo buffalo buffalo buffalo buffalo buffalo buffalo",
    "mixed": "The word 猫 means cat, кошка too; قطة 🐈 = chat₂ ½ ﬁn.",
    "markup": "<b>bold</b> &amp; <script>alert('x')</script> </s> [CLS] <|endoftext|>",
    "invisible": "zero\u200bwidth and \u202eturned\u202c around\u00a0here",
    "full": "",  # 512 tokens, filled in by `text_for`
}


def text_of_length(tokenizer: Any, length: int) -> str:
    """A text of exactly `length` tokens, special ones counted."""
    n_words = length - tokenizer.num_special_tokens_to_add()
    text = " ".join(_WORDS[(i * i + i // 7) % len(_WORDS)] for i in range(n_words))
    found = len(tokenizer(text)["input_ids"])
    assert found == length, f"the words were to make {length} tokens and made {found}"
    return text


def text_for(name: str, tokenizer: Any) -> str:
    return TEXTS[name] or text_of_length(tokenizer, 512)
