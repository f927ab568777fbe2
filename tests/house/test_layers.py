"""Imports go one way: a module imports only from its own layer and the layers above it."""

import ast
import re
from pathlib import Path

import edgewise

PACKAGE = Path(edgewise.__file__).parent
# Top to bottom; each may import what stands before it. The first five are for everyone.
LAYERS = [
    "errors",
    "blame",
    "codec",
    "storage",
    "settings",
    "graph",
    "circuit",
    "data",
    "metrics",
    "model",
    "patching",
    "problem",
    "identity",
    "engine",
    "methods",
    "evaluation",
    "tasks",
    "record",
    "sweeps",
    "leaderboards",
    "reporting",
    "reproduce",
    "cli",
]
# A method never sees the answer: nothing that finds or judges circuits may import tasks.
FORBIDDEN = {("methods", "tasks"), ("evaluation", "tasks"), ("record", "tasks")}


def _imports(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found.add(node.module or "")
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name.split(".")[1] for name in found if name.startswith("edgewise.")}


def _files() -> list[tuple[str, Path]]:
    files = sorted(PACKAGE.rglob("*.py"))
    return [(f.relative_to(PACKAGE).parts[0].removesuffix(".py"), f) for f in files]


def test_every_module_belongs_to_a_layer():
    assert {layer for layer, _ in _files()} - {"__init__"} <= set(LAYERS)


def test_imports_go_one_way():
    for layer, file in _files():
        if layer == "__init__":
            continue
        for imported in _imports(file):
            assert LAYERS.index(imported) <= LAYERS.index(layer), f"{file}: imports {imported}"
            assert (layer, imported) not in FORBIDDEN, f"{file}: imports {imported}"


def test_files_stay_small():
    for _, file in _files():
        assert len(file.read_text().splitlines()) <= 450, file


def test_axes_are_quoted():
    """An unquoted axis name is no annotation: the shape would silently go unchecked."""
    for _, file in _files():
        unquoted = re.findall(r"(?:Float|Int|Bool)\[Tensor, [^\"]", file.read_text())
        assert not unquoted, file


def test_no_pickle_and_no_catch_all_modules():
    for _, file in _files():
        assert file.name not in ("utils.py", "helpers.py", "misc.py")
        text = file.read_text()
        assert "pickle" not in text, file
        loads = re.findall(r"torch\.load\(.*", text)
        assert all("weights_only=True" in load for load in loads), file
