"""Which weights a model has: a checkpoint, its tuned self and one with a head cut may have one name."""

from __future__ import annotations

import hashlib
from weakref import WeakKeyDictionary

import torch

from attnviz.models import Model

_HASHED: WeakKeyDictionary[torch.nn.Module, tuple[tuple[tuple[int, int], ...], str]] = WeakKeyDictionary()


def fingerprint(model: Model) -> str:
    """All weights and kept buffers, hashed: 16 hexadecimal digits.

    Hashed once, and again when torch has counted a change in place or a tensor was replaced. What writes past that
    count (`weight.data.mul_()`) in a model that was hashed already is not seen.
    """
    tensors = {id(t): (name, t) for name, t in model.hf_model.state_dict(keep_vars=True).items() if torch.is_tensor(t)}
    state = tuple((t.data_ptr(), 0 if t.is_inference() else t._version) for _, t in tensors.values())
    known = _HASHED.get(model.hf_model)
    if known is None or known[0] != state:
        found = hashlib.blake2b(digest_size=8)
        for name, weights in tensors.values():
            found.update(f"{name}{tuple(weights.shape)}{weights.dtype}".encode())
            found.update(weights.detach().cpu().flatten().view(torch.uint8).numpy().data)
        known = _HASHED[model.hf_model] = state, found.hexdigest()
    return known[1]
