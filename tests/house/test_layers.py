"""Files belong to a room, stay small and keep the rules of the house."""

import ast
import re
from pathlib import Path

import edgewise
from house import ROOMS

PACKAGE = Path(edgewise.__file__).parent
# A method never sees the answer: nothing that finds or judges circuits may import tasks.
FORBIDDEN = {("methods", "tasks"), ("evaluation", "tasks"), ("run", "tasks")}


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
    assert {layer for layer, _ in _files()} - {"__init__"} <= set(ROOMS)


def test_nothing_that_finds_circuits_imports_tasks():
    for layer, file in _files():
        for imported in _imports(file):
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
