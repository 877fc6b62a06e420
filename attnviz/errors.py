"""What can go wrong, said so that the reader knows what to do next.

    AttnvizError
    ├── InputError          the text, the ids, a position or a setting of this call
    │   ├── TextError       empty, too long, or with characters no tokenizer takes
    │   ├── ContextError    more tokens than the model can read
    │   ├── HeadError       a layer, head or site that the model does not have
    │   ├── ShapeError      a tensor of the wrong shape
    │   └── MetricError     an outcome that this model or text cannot give
    ├── ModelError          the model could not be opened or cannot be trusted
    │   ├── ModelNotFound   no such name, folder or revision, or no network to fetch it
    │   ├── UnsafeModel     pickled weights or remote code, and nobody said yes
    │   └── Unsupported     the model loads, but attention cannot be read or edited
    ├── StoreError          findings could not be kept or read: a full disk, a locked or damaged file, an unknown schema
    │   └── Conflict        somebody else changed, or removed, the same finding meanwhile
    ├── EditNotApplied      an edit that never met the attention it was meant for
    ├── Cancelled           the caller asked to stop
    └── OutOfMemory         the device has no room for this call

Every message says what was expected, what came, and what to do.
"""

from __future__ import annotations

from datetime import datetime


class AttnvizError(Exception):
    """Everything that AttnViz raises on purpose."""


class InputError(AttnvizError, ValueError):
    """The text, the ids, a position or a setting of this call."""


class TextError(InputError):
    """A text that is empty, too long, or holds characters no tokenizer takes."""


class ContextError(InputError):
    """More tokens than the model can read."""


class HeadError(InputError):
    """A layer, head or site that the model does not have."""


class ShapeError(InputError):
    """A tensor of the wrong shape."""


class MetricError(InputError):
    """An outcome that this model or this text cannot give."""


class ModelError(AttnvizError):
    """The model could not be opened, or what it computes cannot be trusted."""


class ModelNotFound(ModelError):
    """No such name, folder or revision, or no network to fetch it."""


class UnsafeModel(ModelError):
    """Pickled weights or remote code, and nobody said yes to them."""


class Unsupported(ModelError):
    """The model loads, but its attention cannot be read, or not be edited."""


class StoreError(AttnvizError):
    """Findings could not be kept, or not be read; what was kept before is as it was."""


class Conflict(StoreError):
    """Somebody else changed, or removed, the same finding meanwhile; nothing was written.

    mine, theirs   the caller's finding, and the one that is kept; None where it was removed or may not be seen
    by, at         who wrote last, and when
    """

    def __init__(
        self, message: str, *, mine: object = None, theirs: object = None, by: str = "", at: datetime | None = None
    ) -> None:
        super().__init__(message)
        self.mine, self.theirs, self.by, self.at = mine, theirs, by, at


class EditNotApplied(AttnvizError):
    """An edit that never met the attention it was meant for."""


class Cancelled(AttnvizError):
    """The caller asked to stop."""


class OutOfMemory(AttnvizError):
    """The device has no room for this call; caches were released."""
