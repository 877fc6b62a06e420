"""The house rules that a reader of the code relies on, held by reading the code."""

import ast
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# A module may import those on lower floors and none on its own or above; packages are one module to the others.
FLOORS = [
    {"attnviz.errors"},
    {"attnviz.settings", "attnviz.checks"},
    {"attnviz.text", "attnviz.memory", "attnviz.logs"},
    {"attnviz.tokens", "attnviz.literals"},
    {"attnviz.units"},
    {"attnviz.recorded", "attnviz.edits", "attnviz.metrics"},
    {"attnviz.tap", "attnviz.returned", "attnviz.watching"},
    {"attnviz.layout", "attnviz.encoding", "attnviz.generation"},
    {"attnviz.info", "attnviz.anatomy"},
    {"attnviz.outputs"},
    {"attnviz.trace", "attnviz.tracefile"},
    {"attnviz.view", "attnviz.tracing", "attnviz.replacing", "attnviz.writing", "attnviz.measuring"},
    {"attnviz.models", "attnviz.embedded"},
    {"attnviz.opening", "attnviz.fingerprint"},
    {"attnviz.admitted", "attnviz.declared"},
    {"attnviz.catalogue", "attnviz.recording"},
    {"attnviz.flow", "attnviz.products", "attnviz.generated", "attnviz.lines", "attnviz.alignment"},
    {"attnviz.heads", "attnviz.ablation"},
    {"attnviz.overview", "attnviz.compare", "attnviz.corpus", "attnviz.emphasis", "attnviz.feedback"},
    {"attnviz.human", "attnviz.gates", "attnviz.steering"},
    {"attnviz.findings"},
    {"attnviz.store"},
    {"attnviz.figures"},
    {"attnviz.bertviz_views", "attnviz.export"},
    {"attnviz.report"},
    {"attnviz"},
    {"attnviz.__main__"},
    {"attnviz.ui"},
    {"pages"},
    {"app"},
]
# A trace is saved and opened by its own file format: two halves of one thing, in two files for their length.
PAIRS = {("attnviz.trace", "attnviz.tracefile"), ("attnviz.tracefile", "attnviz.trace")}
PACKAGES = (
    "attnviz.findings",
    "attnviz.store",
    "attnviz.report",
    "attnviz.edits",
    "attnviz.metrics",
    "attnviz.flow",
    "attnviz.heads",
    "attnviz.ablation",
    "attnviz.corpus",
    "attnviz.human",
    "attnviz.gates",
    "attnviz.figures",
    "attnviz.ui",
    "pages",
)

SOURCES = sorted(p for p in [ROOT / "app.py", *ROOT.glob("pages/**/*.py"), *ROOT.glob("attnviz/**/*.py")] if p.exists())


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def floor_name(module: str) -> str:
    return next((package for package in PACKAGES if module == package or module.startswith(package + ".")), module)


MODULES = {module_of(source) for source in SOURCES}


@cache
def imports_of(path: Path) -> set[str]:
    """Every module that a file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written in full"
            submodules = {f"{node.module}.{alias.name}" for alias in node.names}
            inside = submodules & MODULES
            found |= inside
            if inside != submodules:
                found.add(node.module or "")
    return found


def test_the_readers_of_the_code_find_something_to_read() -> None:
    assert {"app", "attnviz", "attnviz.tap", "attnviz.figures.attention"} <= {module_of(path) for path in SOURCES}
    assert "attnviz.recorded" in imports_of(ROOT / "attnviz" / "tap.py")
    assert "attnviz.edits" in imports_of(ROOT / "attnviz" / "__init__.py")


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_imports_point_down(path: Path) -> None:
    floors = {module: number for number, modules in enumerate(FLOORS) for module in modules}
    me = floor_name(module_of(path))
    assert me in floors, f"{me} has no floor yet: give it one in FLOORS"
    for other in imports_of(path):
        there = floor_name(other)
        if there.partition(".")[0] not in ("attnviz", "pages", "app") or there == me or (me, there) in PAIRS:
            continue
        assert there in floors, f"{there} has no floor yet: give it one in FLOORS"
        assert floors[there] < floors[me], f"{me} imports {other}, which is not below it"


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_only_the_app_knows_streamlit(path: Path) -> None:
    knows = any(name.partition(".")[0] == "streamlit" for name in imports_of(path))
    assert not knows or floor_name(module_of(path)) in ("app", "pages", "attnviz.ui")


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_files_are_short_enough_to_be_read(path: Path) -> None:
    most = {"app": 50, "pages": 120}.get(floor_name(module_of(path)), 320)
    assert len(path.read_text("utf-8").splitlines()) <= most


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_no_file_prints_or_leaves_work_for_later(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    names = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert not names & {"print", "breakpoint", "exec", "eval"} or module_of(path) == "attnviz.__main__"
    assert not any(word in path.read_text("utf-8") for word in ("TODO", "FIXME", "XXX"))


def test_every_package_is_shipped() -> None:
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    for path in ROOT.glob("attnviz/**/__init__.py"):
        assert f'"{module_of(path)}"' in text


def test_importing_has_no_side_effects(tmp_path: Path) -> None:
    program = """
import json, os, sys, threading
before = dict(os.environ)
import attnviz
changed = sorted(k for k in {**before, **os.environ} if before.get(k) != os.environ.get(k))
loaded = set(sys.modules)
from transformers import AttentionInterface, AttentionMaskInterface  # torch changes the environment here
import logging, torch
print(json.dumps({
    "registered": [k for i in (AttentionInterface(), AttentionMaskInterface()) for k in i if "attnviz" in k],
    "streamlit": "streamlit" in loaded,
    "modelling": [m for m in loaded if ".modeling_" in m and m.startswith("transformers.models.") and "auto" not in m],
    "environment": changed,
    "threads": [t.name for t in threading.enumerate() if t is not threading.main_thread() and not t.daemon],
    "handlers": len(logging.getLogger("attnviz").handlers) + len(logging.getLogger().handlers),
    "grad": torch.is_grad_enabled(),
    "dtype": str(torch.get_default_dtype()),
}))
"""
    work = tmp_path / "work"
    work.mkdir()
    home = tmp_path / "home"
    home.mkdir()
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("ATTNVIZ_", "XDG_", "HF_"))}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=work,
        env={**variables, "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert json.loads(done.stdout) == {
        "registered": [],
        "streamlit": False,
        "modelling": [],
        "environment": [],
        "threads": [],
        "handlers": 0,
        "grad": True,
        "dtype": "torch.float32",
    }
    assert [str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if "attnviz" in p.name] == []
    assert list(work.iterdir()) == []


def test_the_public_names_are_there() -> None:
    import attnviz

    assert all(hasattr(attnviz, name) for name in attnviz.__all__)
    for name in ("load_model", "wrap_model", "load_trace", "Head", "edits", "metrics", "figures"):
        assert name in attnviz.__all__
