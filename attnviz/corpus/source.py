"""A file of any encoding and any size as lines of text, each of a bounded length.

Nothing is believed of a file: its encoding is found by reading all of it once (a byte that is no UTF-8 may stand at the
end of 200 MB), and a line longer than `MOST_LINE` is refused before it is held.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from attnviz.errors import InputError

Source = str | bytes | Path | BinaryIO
MOST_LINE = 1_000_000  # characters: far more than any text that a model reads
_PIECE = 1 << 20
# UTF-32's mark begins with UTF-16's.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NOT_IN_1252 = frozenset(b"\x81\x8d\x8f\x90\x9d")


@dataclass(frozen=True)
class Encoding:
    """How a file's bytes are read; `note` says so where it is a guess, else ""."""

    name: str
    note: str = ""


@contextmanager
def opened(source: Source) -> Iterator[BinaryIO]:
    """The bytes of a source from the start; a text is its UTF-8; a file that was open stays open.

    raises   InputError for what cannot be opened, or not be read twice
    """
    if isinstance(source, str | bytes):
        # A lone surrogate passes here and is refused, and counted, with the text that it stands in.
        yield io.BytesIO(source.encode("utf-8", "surrogatepass") if isinstance(source, str) else source)
    elif isinstance(source, Path):
        try:
            file = source.open("rb")
        except OSError as error:
            raise InputError(f"{source.name} cannot be opened ({error.strerror}). Choose another file.") from error
        with file:
            yield file
    else:
        if not source.seekable():
            raise InputError(
                "A corpus's file is read twice, so it has to be seekable: save it first, and pass its path."
            )
        source.seek(0)
        yield source


def encoding_of(file: BinaryIO) -> Encoding:
    """By its mark, else UTF-8 where all of it is, else Windows-1252 or Latin-1.

    raises   InputError for an empty file
    """
    file.seek(0)
    head = file.read(_PIECE)
    if not head:
        raise InputError("The file is empty. Choose one with a text on each line, or a table with a column of texts.")
    for mark, name in _MARKS:
        if head.startswith(mark):
            return Encoding(name)
    if wide := _wide(head):
        file.seek(0)
        return Encoding(
            wide, f"The file has no byte order mark; every other byte is 0, so it was read as {wide.upper()}."
        )
    decoder, at, undefined = codecs.getincrementaldecoder("utf-8")("surrogatepass"), 0, False
    bad: int | None = None
    piece = head
    while piece:
        if bad is None:
            pending = len(decoder.getstate()[0])
            try:
                decoder.decode(piece)
            except UnicodeDecodeError as error:
                bad = at - pending + error.start
        undefined = undefined or not _NOT_IN_1252.isdisjoint(piece)
        at += len(piece)
        piece = file.read(_PIECE)
    if bad is None and decoder.getstate()[0]:
        bad = at - len(decoder.getstate()[0])
    if bad is None:
        return Encoding("utf-8")
    name, said = ("latin-1", "Latin-1") if undefined else ("cp1252", "Windows-1252 (Western European)")
    return Encoding(
        name, f"Byte {bad + 1:,} is not UTF-8, so the file was read as {said}; check the letters with accents."
    )


def clean(text: str) -> str:
    """Without halves of characters, which cannot be shown or kept."""
    return text.encode("utf-8", "replace").decode()


def lines_of(file: BinaryIO, encoding: Encoding, *, keep_ends: bool = False) -> Iterator[str]:
    """The lines of an open file from its start, one at a time.

    keep_ends   with their ends as they are, as the csv module wants them
    raises      InputError for a line over MOST_LINE characters, or bytes that the encoding does not have
    """
    errors = "surrogatepass" if encoding.name.startswith("utf-8") else "strict"
    file.seek(0)
    text = io.TextIOWrapper(file, encoding.name, errors, newline="" if keep_ends else None)
    number = 0
    try:
        while line := text.readline(MOST_LINE + 1):
            number += 1
            if len(line) > MOST_LINE:
                raise InputError(
                    f"Line {number:,} has more than {MOST_LINE:,} characters. Each text stands on a line, or in a "
                    "field, of its own: split it, or check that this is the file you meant."
                )
            yield line if keep_ends else line.removesuffix("\n")
    except UnicodeError as error:
        raise InputError(
            f"After line {number:,} the file breaks off in the middle of a character ({encoding.name}). It may be "
            "damaged: save it again as UTF-8."
        ) from error
    finally:
        if not file.closed:  # it is not ours to close
            text.detach()


def first_line(file: BinaryIO, encoding: Encoding) -> Iterator[str]:
    """The first line of an open file, however long it is, in pieces of at most MOST_LINE characters."""
    file.seek(0)
    text = io.TextIOWrapper(file, encoding.name, "replace", newline="")
    try:
        while piece := text.readline(MOST_LINE):
            yield piece
            if piece.endswith(("\n", "\r")):
                return
    finally:
        text.detach()


def _wide(head: bytes) -> str:
    """UTF-16 without a mark, told by its zeros; "" where it is not."""
    sample = head[:4096]
    zeros = [sample[start::2].count(0) / max(1, len(sample) // 2) for start in (0, 1)]
    if zeros[1] > 0.4 and zeros[0] < 0.1:
        return "utf-16-le"
    return "utf-16-be" if zeros[0] > 0.4 and zeros[1] < 0.1 else ""
