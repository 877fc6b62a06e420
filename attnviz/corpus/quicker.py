"""Large matrix products on oneDNN, for a block of this thread alone.

torch sends float32 `linear` to its BLAS, which on some CPUs leaves half of the vector units idle: on one core of the
AMD EPYC in docs/CORPUS.md MKL comes to 95 GFLOPS at 128 rows and more, oneDNN to 224. torch has oneDNN built in for
compiled models; here a mode of this thread sends it what a forward pass multiplies, and the model itself stays
untouched. Sums are taken in another order, so results differ by rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_LEAST_ROWS = 32  # fewer are bound by reading the weights


def quick_products(device: torch.device) -> AbstractContextManager[Any]:
    """A block in which large float32 products run on oneDNN, where torch was built with it; else a plain block."""
    there = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return _Products() if device.type == "cpu" and there else nullcontext()


class _Products(TorchFunctionMode):
    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if function is torch.nn.functional.linear and not kwargs and _fits(*args[:2]):
            states, weight, bias = (*args, None)[:3]
            return torch.ops.mkldnn._linear_pointwise(states, weight, bias, "none", [], "")
        return function(*args, **(kwargs or {}))


def _fits(states: torch.Tensor, weight: torch.Tensor) -> bool:
    plain = states.dtype == weight.dtype == torch.float32 and weight.is_contiguous() and states.is_contiguous()
    rows = states.numel() // max(1, states.shape[-1])
    return plain and states.dim() >= 2 and rows >= _LEAST_ROWS and not torch.is_grad_enabled()
