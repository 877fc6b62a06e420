"""What the benchmarks share: a plain model, its forward, a process's memory, and a line of figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
import transformers

from attnviz.embedded import EMBEDDED, embedded_folder

MB = 1e6


def embedded_smollm2() -> Path:
    return Path(embedded_folder(EMBEDDED["smollm2"], lambda what, share: None))


def plain_model(implementation: str) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(
        embedded_smollm2(), dtype=torch.float32, attn_implementation=implementation
    ).eval()


def token_ids(length: int) -> list[int]:
    return [(37 * i * i + 11 * i) % 40_000 + 100 for i in range(length)]


def forward(hf_model: Any, ids: list[int], **keywords: Any) -> Any:
    tensor = torch.tensor([ids])
    with torch.no_grad():
        return hf_model(input_ids=tensor, attention_mask=torch.ones_like(tensor), use_cache=False, **keywords)


def status_of(process: int | str, name: str) -> int:
    """A figure of a process's /proc status in bytes."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(name + ":")).split()[1])


def in_fresh_process(script: str, *args: str) -> dict[str, Any]:
    """What a script prints last, as JSON, when run by itself with these arguments."""
    done = subprocess.run([sys.executable, script, *args], stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def row(what: str, figure: str, ratio: str = "", target: str = "") -> None:
    print(f"{what:<46}{figure:>12}{ratio:>20}{'  target ' + target if target else ''}", flush=True)
