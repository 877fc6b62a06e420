"""Trains the date model that ships beside this file: "the 3rd of May 1998" in, "1998-05-03" out.

    python assets/dates/train.py             # trains, writes the model, prints the accuracy
    python assets/dates/train.py --evaluate  # only the accuracy of the shipped model

Why it exists: translating a written date is the classic picture of cross-attention as alignment (every output
character has a place in the source that it comes from), and a model this small can be shipped and read by anybody.
This file knows that place (`Example.right`), so that the picture can be checked; `benchmarks/dates.py` does.

The split is by date: `split()` sets 2,000 days aside for the test and 2,000 for choosing settings, and no such day
(year, month and day together) is ever written in training, in any format. Every written date means one day only, so
no test text occurs in training either.

Numbers alone are ambiguous, so the separator decides: dots are day.month.year (03.05.1998 is 3 May), slashes after a
short number are month/day/year (5/3/1998 is 3 May), and a year in front is followed by month and day. Years have four
digits, 1900 to 2099. A weekday, where one is written, is the right one. The model knows these formats and no others,
and does not refuse: "3 May 98", "31 February 2000" or a text without a date give some answer all the same.
"""

from __future__ import annotations

import argparse
import calendar
import random
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    BartConfig,
    BartForConditionalGeneration,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

FOLDER = Path(__file__).resolve().parent
SEED = 20240503
SPLIT_SEED = 1998  # apart from SEED, so that another training run keeps the same test days
N_TEST = N_VALIDATION = 2_000
MAX_LENGTH = 64
PAD, START, END, UNKNOWN = 0, 1, 2, 3
SPECIALS = ("<pad>", "<s>", "</s>", "<unk>")
CHARACTERS = " ,./-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
OUTPUT_FIELDS = ("year",) * 4 + (None,) + ("month",) * 2 + (None,) + ("day",) * 2  # of "1998-05-03"

FORMATS = (
    "{ordinal} of {month} {year}",
    "the {ordinal} of {month} {year}",
    "the {ordinal} of {month}, {year}",
    "{ordinal} {month} {year}",
    "{day} {month} {year}",
    "{day} {month}, {year}",
    "{day}. {month} {year}",
    "{day2} {month} {year}",
    "{month} {day}, {year}",
    "{month} {day} {year}",
    "{month} {day2}, {year}",
    "{month} {ordinal}, {year}",
    "{month} {ordinal} {year}",
    "{weekday}, {day} {month} {year}",
    "{weekday} {day} {month} {year}",
    "{weekday} {ordinal} {month} {year}",
    "{weekday}, {month} {day}, {year}",
    "{weekday}, {month} {ordinal}, {year}",
    "{weekday}, the {ordinal} of {month} {year}",
    "{year} {month} {day}",
    "{year} {month} {ordinal}",
    "{year}, {month} {day}",
    "{day}-{month}-{year}",
    "the {word} of {month} {year}",
    "{month} the {word}, {year}",
    "{weekday}, the {word} of {month} {year}",
    "{day2}.{month2}.{year}",
    "{day}.{month1}.{year}",
    "{month1}/{day}/{year}",
    "{month2}/{day2}/{year}",
    "{year}-{month2}-{day2}",
    "{year}/{month2}/{day2}",
)
LEAD_INS = ("on ", "On ", "dated ", "born ", "It was ")
UNITS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")
TEENS = ("thirteenth", "fourteenth", "fifteenth", "sixteenth", "seventeenth", "eighteenth", "nineteenth")
TWENTIES = ("twentieth", *(f"twenty-{word}" for word in UNITS))
DAY_WORDS = (*UNITS, "tenth", "eleventh", "twelfth", *TEENS, *TWENTIES, "thirtieth", "thirty-first")


@dataclass(frozen=True, slots=True)
class Example:
    """A written date and where in it year, month and day stand (`[start, end)`).

    An ordinal's span is its number without the suffix, since the suffix is not what is copied.
    """

    source: str
    target: str
    spans: dict[str, tuple[int, int]]
    form: str

    def right(self) -> list[tuple[str, tuple[int, ...]]]:
        """For every character of the target its kind and the source characters it comes from.

        copied: one digit from one digit. zero: the zero put before a one-digit number, from that number. spelled: from
        any letter of a month's name or a day's word. hyphen: from nowhere.
        """
        found: list[tuple[str, tuple[int, ...]]] = []
        seen = {"year": 0, "month": 0, "day": 0}
        for field in OUTPUT_FIELDS:
            if field is None:
                found.append(("hyphen", ()))
                continue
            start, end = self.spans[field]
            place, seen[field] = seen[field], seen[field] + 1
            if not self.source[start:end].isdigit():
                found.append(("spelled", tuple(range(start, end))))
            elif end - start == 1:
                found.append(("copied" if place else "zero", (start,)))
            else:
                found.append(("copied", (start + place,)))
        return found


def split() -> tuple[list[date], list[date], list[date]]:
    """Days for training, for choosing settings and for the test, from all days of 1900 to 2099."""
    first = date(1900, 1, 1)
    days = [first + timedelta(n) for n in range((date(2100, 1, 1) - first).days)]
    random.Random(SPLIT_SEED).shuffle(days)
    return days[N_TEST + N_VALIDATION :], days[N_TEST : N_TEST + N_VALIDATION], days[:N_TEST]


def suffix(day: int) -> str:
    """The letters after a day's number: 1st, 2nd, 3rd, 11th."""
    return "th" if 11 <= day <= 13 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")


def write(day: date, rng: random.Random) -> Example:
    """One day in one format drawn at random, with the place of each field."""
    form = rng.choice(FORMATS)
    name = calendar.month_name[day.month]
    short = "Sept" if day.month == 9 and rng.random() < 0.5 else name[:3]
    dotted = short if short == name else f"{short}."
    weekday = calendar.day_name[day.weekday()]
    texts = {
        "year": f"{day.year}",
        "month": rng.choices((name, short, dotted), (6, 2, 2))[0],
        "month1": f"{day.month}",
        "month2": f"{day.month:02d}",
        "day": f"{day.day}",
        "day2": f"{day.day:02d}",
        "ordinal": f"{day.day}",
        "word": DAY_WORDS[day.day - 1],
        "weekday": rng.choices((weekday, weekday[:3]), (6, 4))[0],
    }
    fields = {"month1": "month", "month2": "month", "day2": "day", "ordinal": "day", "word": "day"}
    source = rng.choice(LEAD_INS) if rng.random() < 0.1 else ""
    spans = {}
    for literal, field in re.findall(r"([^{]*)\{(\w+)\}", form):
        source += literal
        spans[fields.get(field, field)] = (len(source), len(source) + len(texts[field]))
        source += texts[field] + (suffix(day.day) if field == "ordinal" else "")
    source += "." if rng.random() < 0.05 else ""
    source = rng.choices((source, source.lower(), source.upper()), (6, 2, 2))[0]
    return Example(source, day.isoformat(), {key: spans[key] for key in ("year", "month", "day")}, form)


def examples(days: Sequence[date], seed: int) -> list[Example]:
    """Each day once, in a format drawn at random; the same every time."""
    rng = random.Random(seed)
    return [write(day, rng) for day in days]


def test_examples() -> list[Example]:
    """The 2,000 written dates on which accuracy and alignment are reported."""
    return examples(split()[2], SPLIT_SEED)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One token a character, </s> at the end of sources and targets alike."""
    vocabulary = {text: n for n, text in enumerate((*SPECIALS, *CHARACTERS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", END)])
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=MAX_LENGTH,
        clean_up_tokenization_spaces=False,
    )


def make_model(d_model: int, ffn: int, layers: int, heads: int, dropout: float) -> BartForConditionalGeneration:
    """A tiny BART; its decoder starts from <s> and nothing is forced, so that it has to stop by itself."""
    return BartForConditionalGeneration(
        BartConfig(
            vocab_size=len(SPECIALS) + len(CHARACTERS),
            d_model=d_model,
            encoder_layers=layers,
            decoder_layers=layers,
            encoder_attention_heads=heads,
            decoder_attention_heads=heads,
            encoder_ffn_dim=ffn,
            decoder_ffn_dim=ffn,
            max_position_embeddings=MAX_LENGTH,
            dropout=dropout,
            pad_token_id=PAD,
            bos_token_id=START,
            eos_token_id=END,
            decoder_start_token_id=START,
            forced_eos_token_id=None,
        )
    )


def encode(texts: Sequence[str]) -> torch.Tensor:
    """Padded ids, the same as the tokenizer's (which would take most of a training step)."""
    ids = {text: n for n, text in enumerate(CHARACTERS, len(SPECIALS))}
    rows = [torch.tensor([*(ids.get(c, UNKNOWN) for c in text), END]) for text in texts]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD)


def train(model: BartForConditionalGeneration, steps: int, batch: int, rate: float, seed: int) -> None:
    """Every step writes its own dates, so no text is seen often enough to be learnt by heart."""
    days, validation, _ = split()
    tokenizer = make_tokenizer()
    rng = random.Random(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    began, total = time.monotonic(), 0.0
    for step in range(1, steps + 1):
        model.train()
        drawn = [write(rng.choice(days), rng) for _ in range(batch)]
        ids = encode([example.source for example in drawn])
        labels = encode([example.target for example in drawn])  # all of one length: no padding to leave out
        loss = model(input_ids=ids, attention_mask=(ids != PAD).long(), labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        total += loss.item()
        if step % 500 == 0 or step == steps:
            right = sum(correct(model, tokenizer, examples(validation, seed)))
            minutes = (time.monotonic() - began) / 60
            say(f"step {step}  loss {total / 500:.5f}  validation {right}/{len(validation)}  {minutes:.1f} min")
            total = 0.0


def correct(
    model: BartForConditionalGeneration, tokenizer: PreTrainedTokenizerBase, given: Sequence[Example]
) -> list[bool]:
    """For each example whether greedy generation writes exactly the target and then stops by itself."""
    model.eval()
    found: list[bool] = []
    for start in range(0, len(given), 250):
        some = given[start : start + 250]
        batch = tokenizer([example.source for example in some], padding=True, return_tensors="pt")
        with torch.no_grad():
            out = model.generate(
                batch.input_ids, attention_mask=batch.attention_mask, do_sample=False, num_beams=1, max_length=20
            )
        for row, example in zip(out, some, strict=True):
            stopped = row[1 + len(example.target) :][:1].tolist() == [END]
            found.append(stopped and tokenizer.decode(row, skip_special_tokens=True) == example.target)
    return found


def say(line: str) -> None:
    """One line to the terminal at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Trains and writes the model unless told only to evaluate; always ends with the accuracy on unseen dates."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--evaluate", action="store_true", help="only print the accuracy of the model in the folder")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--steps", type=int, default=6_000)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--d-model", type=int, default=64)
    parser.add_argument("--ffn", type=int, default=128)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--dropout", type=float, default=0.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not options.evaluate:
        torch.manual_seed(options.seed)
        torch.use_deterministic_algorithms(True)
        trained = make_model(options.d_model, options.ffn, options.layers, options.heads, options.dropout)
        say(f"{sum(p.numel() for p in trained.parameters()):,} weights")
        train(trained, options.steps, options.batch, options.rate, options.seed)
        trained.save_pretrained(options.folder)
        make_tokenizer().save_pretrained(options.folder)
        for path in options.folder.glob("*.safetensors"):
            path.chmod(0o644)
    model = AutoModelForSeq2SeqLM.from_pretrained(options.folder)
    tokenizer = AutoTokenizer.from_pretrained(options.folder)
    right = sum(correct(model, tokenizer, test_examples()))
    say(f"exact match on {N_TEST} unseen dates: {right} ({right / N_TEST:.2%})")


if __name__ == "__main__":
    main()
