"""Write what type checkers and editors read of `ew.acdc`, `ew.eap`, …, from the catalogue.

    python scripts/write_stub.py

`tests/methods/test_functions.py` fails while `src/edgewise/functions.pyi` is not what this writes.
"""

from __future__ import annotations

import inspect
import textwrap
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from edgewise import functions
from edgewise.methods import OnProgress

STUB = Path(functions.__file__).with_suffix(".pyi")
HEAD = '''"""A function for each discovery method. Written by scripts/write_stub.py."""

from pathlib import Path
from typing import Literal

from edgewise.problem import Problem
from edgewise.progress import OnProgress
from edgewise.run import Run
'''


def stub() -> str:
    """The text of the stub."""
    names = "\n".join(f'    "{name}",' for name in sorted(functions.__all__))
    shown = [_function(name) for name in functions.__all__]
    return "\n".join([HEAD, f"__all__ = [\n{names}\n]\n", *shown])


def _function(name: str) -> str:
    function = getattr(functions, name)
    problem, *settings = inspect.signature(function).parameters.values()
    lines = [f"    {problem.name}: Problem,", "    *,", *map(_parameter, settings)]
    doc = textwrap.indent(function.__doc__, "    ").strip()
    return f'def {name}(\n{chr(10).join(lines)}\n) -> Run:\n    """{doc}\n    """\n'


def _parameter(parameter: inspect.Parameter) -> str:
    line = f"    {parameter.name}: {_type(parameter.annotation)}"
    if parameter.default is inspect.Parameter.empty:
        return f"{line},"
    default = "..." if callable(parameter.default) else _literal(parameter.default)
    return f"{line} = {default},"


def _type(annotation: Any) -> str:
    if annotation is OnProgress:
        return "OnProgress"
    if get_origin(annotation) is Literal:
        return f"Literal[{', '.join(map(_literal, get_args(annotation)))}]"
    if get_args(annotation):
        return " | ".join(map(_type, get_args(annotation)))
    return "None" if annotation is type(None) else annotation.__name__


def _literal(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


if __name__ == "__main__":
    STUB.write_text(stub(), encoding="utf-8")
