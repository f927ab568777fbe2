"""Measure the house: lines, density, imports, names and sizes of what lies under src and tests.

    python scripts/house.py            # the figures, a line each, and a table of the rooms
    python scripts/house.py --slow     # also what help takes, and the files one discovery enters

`tests/house/test_house.py` holds each figure to its limit. The figures of the first edition, from
which this house was rebuilt, stand beside them.
"""

from __future__ import annotations

import argparse
import ast
import re
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import calls

ROOT = Path(__file__).resolve().parents[1]
SRC, TESTS = ROOT / "src" / "edgewise", ROOT / "tests"

# The first edition, measured by the same functions.
BEFORE = {
    "lines of src": 36_077,
    "statements of src": 20_101,
    "docstring lines of src": 4_251,
    "characters a line": 47.3,
    "lines of tests": 18_474,
    "lines of discover --help": 357,
    "lines of edgewise methods": 305,
    "files entered": 52,
    "changes of file": 6_390,
}

# Rooms from the lowest to the highest: each imports from itself and from those before it.
ROOMS = (
    "errors",
    "plugins",
    "documents",
    "tables",
    "display",
    "arguments",
    "progress",
    "graph",
    "circuit",
    "data",
    "metrics",
    "model",
    "patching",
    "problem",
    "work",
    "engine",
    "methods",
    "evaluation",
    "tasks",
    "run",
    "functions",
    "sweep_folder",
    "sweep_result",
    "points",
    "sweeps",
    "reporting",
    "recipes",
    "cli",
    "__main__",
)

# Opens upward, to what draws results, when something is drawn.
DOOR = "display"

# Words of the first edition's dialect, as parts of identifiers; STYLE's vocabulary has ours.
DIALECT = frozenset(
    (
        "reference",
        "references",
        "gone",
        "twin",
        "twins",
        "visit",
        "visits",
        "judged",
        "judging",
        "judgement",
        "judgements",
        "asked",
        "posed",
        "doubt",
        "vague",
        "hears",
        "woken",
        "sent",
        "entrant",
        "entrants",
        "standing",
        "standings",
        "rivals",
        "finding",
        "findings",
    )
)
# `reporting` is rebuilt by a later change; until then its stems and words are its own.
LATER = {"reporting"}


@cache
def sources(folder: Path = SRC) -> Mapping[Path, str]:
    """Every Python file below a folder, with its text."""
    return {path: path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.py"))}


@cache
def tree(path: Path) -> ast.Module:
    """The syntax of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


def room_of(path: Path) -> str:
    """The room of a file of the package: its first folder, or its own name."""
    return path.relative_to(SRC).parts[0].removesuffix(".py")


def lines_of(folder: Path) -> int:
    """Lines of Python below a folder."""
    return sum(len(text.splitlines()) for text in sources(folder).values())


def density() -> dict[str, float]:
    """Statements, docstring lines, and characters a line that is not blank."""
    written = [line for text in sources().values() for line in text.splitlines() if line.strip()]
    nodes = [node for path in sources() for node in ast.walk(tree(path))]
    return {
        "statements of src": sum(isinstance(node, ast.stmt) for node in nodes),
        "docstring lines of src": sum(_docstring_lines(node) for node in nodes),
        "characters a line": round(sum(map(len, written)) / len(written), 1),
    }


def _docstring_lines(node: ast.AST) -> int:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    if not isinstance(node, documented) or ast.get_docstring(node, clean=False) is None:
        return 0
    return (node.body[0].end_lineno or 0) - node.body[0].lineno + 1


def imports_of(path: Path) -> set[str]:
    """Modules of the package that a file imports anywhere but for type checkers alone."""
    names: set[str] = set()
    for node in _executed(tree(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name in modules()}


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _executed(child)


@cache
def modules() -> Mapping[str, Path]:
    """Files of the package by their module names."""
    found = {}
    for path in sources():
        parts = ("edgewise", *path.relative_to(SRC).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def upward_imports() -> list[str]:
    """Imports of a room that stands above the importing one."""
    found = []
    for path in sources():
        room = room_of(path)
        if room in ("__init__", DOOR):
            continue
        for name in sorted(imports_of(path)):
            other = room_of(modules()[name])
            if other != "__init__" and ROOMS.index(other) > ROOMS.index(room):
                found.append(f"{path.relative_to(SRC)} imports {name}")
    return found


def import_circles() -> list[str]:
    """Groups of files that import each other, a package's own `__init__` aside."""
    import networkx

    graph = networkx.DiGraph()
    for name, path in modules().items():
        if path.name != "__init__.py" and room_of(path) != DOOR:
            graph.add_edges_from(
                (name, other)
                for other in imports_of(path)
                if other != name and modules()[other].name != "__init__.py"
            )
    return [
        ", ".join(sorted(group))
        for group in networkx.strongly_connected_components(graph)
        if len(group) > 1
    ]


def repeated_names() -> list[str]:
    """File stems and class names that stand twice; `cli` has its commands' names."""
    places: dict[str, list[str]] = defaultdict(list)
    for path in sources():
        if room_of(path) in {"cli", *LATER}:
            continue
        where = str(path.relative_to(SRC))
        if path.stem != "__init__":
            places[f"{path.stem}.py"].append(where)
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ClassDef):
                places[f"class {node.name}"].append(where)
    return [f"{name}: {', '.join(at)}" for name, at in places.items() if len(at) > 1]


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function with its file and name; of classes, `Class.method`."""
    for path in sources():
        for node in ast.walk(tree(path)):
            owner = f"{node.name}." if isinstance(node, ast.ClassDef) else ""
            if isinstance(node, ast.Module | ast.ClassDef):
                for item in node.body:
                    if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef):
                        yield f"{path.relative_to(SRC)}: {owner}{item.name}", item


def long_functions(limit: int = 60) -> list[str]:
    """Functions of more lines than the limit, docstring and signature included."""
    return [
        f"{name}, {(node.end_lineno or 0) - node.lineno + 1} lines"
        for name, node in functions()
        if (node.end_lineno or 0) - node.lineno + 1 > limit
    ]


def many_positional(limit: int = 3) -> list[str]:
    """Public functions that take more positional parameters than the limit, `self` aside."""
    found = []
    for name, node in functions():
        parameters = [a.arg for a in (*node.args.posonlyargs, *node.args.args)]
        own = [p for p in parameters if p not in ("self", "cls")]
        private = any(part.startswith("_") for part in name.partition(": ")[2].split("."))
        if not private and len(own) > limit and room_of_name(name) != "cli":
            found.append(f"{name}({', '.join(own)})")
    return found


def room_of_name(name: str) -> str:
    """The room in `room/file.py: function`."""
    return name.partition(":")[0].partition("/")[0].removesuffix(".py")


def dialect() -> list[str]:
    """Identifiers made of a word that the field does not use for it."""
    found = []
    for path in sources():
        if room_of(path) in LATER:
            continue
        names = {path.stem}
        for node in ast.walk(tree(path)):
            if isinstance(
                node, ast.Name | ast.FunctionDef | ast.ClassDef | ast.arg | ast.Attribute
            ):
                names.add(
                    getattr(node, "id", None)
                    or getattr(node, "name", None)
                    or getattr(node, "arg", None)
                    or node.attr  # type: ignore[union-attr]
                )
        for name in sorted(names):
            words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().split("_")
            if DIALECT & set(words):
                found.append(f"{path.relative_to(SRC)}: {name}")
    return found


def printed_lines(*arguments: str) -> int:
    """Lines that a command prints on 80 columns."""
    return len(_printed(*arguments).splitlines())


def _printed(*arguments: str) -> str:
    command = [sys.executable, "-m", "edgewise.cli.main", *arguments]
    environment = {"COLUMNS": "80", "PATH": "", "PYTHONPATH": str(SRC.parent), "NO_COLOR": "1"}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    ).stdout


def help_seconds() -> float:
    """Seconds of `edgewise --help`, the best of three."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        _printed("--help")
        times.append(time.perf_counter() - start)
    return min(times)


def figures() -> dict[str, float]:
    """What a test holds to limits, without running anything."""
    return {
        "lines of src": lines_of(SRC),
        **density(),
        "lines of tests": lines_of(TESTS),
        "upward imports": len(upward_imports()),
        "import circles": len(import_circles()),
        "repeated stems and class names": len(repeated_names()),
        "functions over 60 lines": len(long_functions()),
        "public functions of more than three positional parameters": len(many_positional()),
        "identifiers of the old dialect": len(dialect()),
    }


def rooms() -> dict[str, int]:
    """Lines of each room."""
    lines: dict[str, int] = dict.fromkeys(ROOMS, 0)
    for path, text in sources().items():
        lines[room_of(path)] = lines.get(room_of(path), 0) + len(text.splitlines())
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--slow", action="store_true", help="also run the command and a discovery")
    parser.add_argument("--list", action="store_true", help="name what each count counts")
    chosen = parser.parse_args()
    measured = figures()
    if chosen.slow:
        measured["lines of discover --help"] = printed_lines("discover", "--help")
        measured["lines of edgewise methods"] = printed_lines("methods")
        measured["seconds of edgewise --help"] = round(help_seconds(), 2)
        entered = calls.acdc_on_reverse()
        measured |= {"files entered": entered.files, "changes of file": entered.changes}
    for name, value in measured.items():
        before = f"   (first edition {BEFORE[name]:,})" if name in BEFORE else ""
        print(f"{value:>10,} {name}{before}")
    print()
    for room, lines in rooms().items():
        print(f"{lines:>10,} {room}")
    if chosen.list:
        counts = (upward_imports, import_circles, repeated_names, long_functions, many_positional)
        for count in (*counts, dialect):
            print(f"\n{(count.__doc__ or '').splitlines()[0]}")
            print("\n".join(f"  {item}" for item in count()))


if __name__ == "__main__":
    main()
