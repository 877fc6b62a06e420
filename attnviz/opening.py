"""What can go wrong while a checkpoint is opened, as an AttnvizError that says what to do."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import torch
from huggingface_hub import constants
from huggingface_hub.errors import HTTPError, StrictDataclassError
from huggingface_hub.utils import get_session
from safetensors import SafetensorError

from attnviz.embedded import embedded_names
from attnviz.errors import AttnvizError, ModelError, ModelNotFound, OutOfMemory, UnsafeModel
from attnviz.memory import release_memory

PICKLE = (
    "{name} has its weights only as a pickle ({what}), which can run any program when it is opened. Save it as "
    "safetensors (model.save_pretrained(folder)), or, if you trust where it comes from, load it in Python with "
    "allow_pickle=True."
)
_HUB_SECONDS = 5
# What transformers and its friends have been seen to raise over a bad checkpoint.
_MET = (
    OSError,
    ValueError,
    RuntimeError,
    LookupError,
    ImportError,
    TypeError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    SafetensorError,
    HTTPError,
    StrictDataclassError,
)


def hub_offline() -> bool:
    """Whether the user told huggingface_hub to stay off the network (HF_HUB_OFFLINE)."""
    return bool(constants.is_offline_mode() if hasattr(constants, "is_offline_mode") else constants.HF_HUB_OFFLINE)


def hub_reachable() -> bool:
    """Whether the Hub answers; asked once and quickly, since its client retries for half a minute."""
    if hub_offline():
        return False
    try:
        get_session().head(constants.ENDPOINT, timeout=_HUB_SECONDS)
    except (HTTPError, OSError):
        return False
    return True


@contextlib.contextmanager
def plain_errors(name: str, local: bool) -> Iterator[None]:
    """Turn what opening a checkpoint can raise into a ModelError about `name`, on this machine or on the Hub."""
    try:
        yield
    except AttnvizError:
        raise
    except (torch.OutOfMemoryError, MemoryError, *_MET) as error:
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "can't allocate memory" not in str(error):
            raise _explained(name, local, error) from error
        release_memory(error)
        raise OutOfMemory(
            f'There is not enough memory for {name}. Choose a smaller model, dtype="bfloat16", or device="cpu".'
        ) from None


def _explained(name: str, local: bool, error: Exception) -> ModelError:
    said = re.sub(r"\s+", " ", str(error)).strip()
    kinds = _kinds(error)
    if "trust_remote_code" in said:
        return UnsafeModel(
            f"{name} wants to run Python code of its own. AttnViz does not run it; if you have read that code, load it "
            "in Python with trust_remote_code=True."
        )
    if isinstance(error, SafetensorError):
        return ModelError(f"The weights of {name} are damaged ({said}). Fetch or save the checkpoint again.")
    if not local:
        found = _hub_error(name, said, kinds)
        if found is not None:
            return found
    return ModelError(
        f"{name} could not be opened: {said[:300]} ({type(error).__name__}). Expected a transformers text checkpoint; "
        "check that it is whole, or save it again with save_pretrained."
    )


def _hub_error(name: str, said: str, kinds: set[str]) -> ModelError | None:
    if "GatedRepoError" in kinds:
        return ModelNotFound(f"{name} is gated. Ask for access on the Hub and set HF_TOKEN, then try again.")
    if "RevisionNotFoundError" in kinds:
        return ModelNotFound(f"{name} has no such revision. Give a branch, a tag or a commit that exists on the Hub.")
    if "RepositoryNotFoundError" in kinds:
        return ModelNotFound(
            f"The Hub has no model {name!r}. Check its spelling (org/model), set HF_TOKEN if it is private, or use "
            f"{embedded_names()}."
        )
    if "safetensors" in said and ("does not appear" in said or "no file named" in said):
        return UnsafeModel(PICKLE.format(name=name, what="no safetensors file"))
    if not hub_reachable():
        why = "HF_HUB_OFFLINE is set" if hub_offline() else "the Hub cannot be reached"
        return ModelNotFound(
            f"{name} is not on this machine, and {why}. Check the name and the network, give a local folder, or use "
            f"{embedded_names()}, which need no network."
        )
    return None


def _kinds(error: BaseException | None) -> set[str]:
    """The type names of an error, of what it came from, and of all their ancestors."""
    names: set[str] = set()
    while error is not None:
        names |= {kind.__name__ for kind in type(error).__mro__}
        error = error.__cause__ or error.__context__
    return names
