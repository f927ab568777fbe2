"""Is this the same work? The one place that says what a result depends on.

Everything that resumes or reuses compares such a document with the one it kept: a run's journal,
runs and points that are finished, replicates, cells of the leaderboard and of the reproduction.

A piece of work is the content of the model's weights, its configuration, processing and dtype; the
graph; the prompts with their answers; metric, target and ablation; the method with its revision,
all its settings and seeds; and the number of this document's format. Names of models and files say
nothing. What decides only how fast it goes or how much memory it takes does not count, so that work
may go on elsewhere or with less: the device, `batch_size`, the number of threads and processes.

A function of the user's own (a metric, a method) counts by its code as Python compiled it, its
defaults, what its closure holds, and the globals it names, theirs included; what comes from an
installed package counts by that package's version. Where that cannot be had (an open file, a
generator, a compiled extension's object), the function is new each time: what it did is never
reused, and `untold` says why. Code that reads a file or the clock when it runs looks the same.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
import sys
import sysconfig
import uuid
import warnings
from abc import ABC
from collections.abc import Callable, Iterator, Mapping, Set
from enum import Enum
from pathlib import Path, PurePath
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, Generic, Protocol

import numpy as np
import torch

from edgewise.circuit import Circuit
from edgewise.errors import shortened
from edgewise.graph import Graph
from edgewise.metrics import METRICS
from edgewise.model import Model
from edgewise.model.checksums import checksum
from edgewise.patching import Ablation
from edgewise.problem import Problem

_FORMAT = 1
_UNTOLD = "cannot be told from another"
_HASH = re.compile("[0-9a-f]{16,64}")
_PARTS = ("target", "test", "metric", "ablation")  # what says nothing by its field alone
Identity = dict[str, Any]  # plain JSON


def of_problem(problem: Problem) -> Identity:
    """What a problem is. Reads every tensor once; raises `ModelChanged` if one is not as it was."""
    problem.check_unchanged()
    target, metric = problem.target, problem.metric
    is_own = metric not in METRICS.values()
    work = {
        "identity": _FORMAT,
        "model": of_model(problem.model, problem.checksums(problem.model)),
        "target": target and of_model(target, problem.checksums(target)),
        "prompts": problem.pairs.sha256,
        "metric": {
            "name": metric.name,
            "unit": metric.unit,
            "higher_is_better": metric.higher_is_better,
            "function": of_function(metric.function) if is_own else "built in",
        },
        "ablation": problem.ablation.to_json(),
        "graph": problem.graph.to_json(),
    }
    return json.loads(json.dumps(work))  # as it comes back from a file


def of_model(model: Model, checksums: Mapping[str, int] | None = None) -> Identity:
    """What a model is; its weights by their checksums, which are computed unless given."""
    if checksums is None:
        checksums = {name: checksum(tensor) for name, tensor in model.weights.items()}
    tensors = [[name, list(model.weights[name].shape), n] for name, n in sorted(checksums.items())]
    names = [str(dtype).removeprefix("torch.") for dtype in (model.dtype, model.compute_dtype)]
    return {
        "config": model.config.to_json(),
        "weights": hashed(tensors),
        "processing": model.processing,
        "dtype": " in ".join(dict.fromkeys(names)),  # of the weights, in what they are computed
    }


def of_function(function: Callable[..., Any]) -> str:
    """A hash of all that a user's own function does; a sentence, new each time, if untold."""
    try:
        return _Content().of(function)
    except _Untold as reason:
        return f"{_UNTOLD}: it uses {reason}, whose content is not known ({uuid.uuid4().hex[:12]})"


def untold(work: Any) -> str | None:
    """Why this work can never be reused, in words; None if it can."""
    if isinstance(work, str):
        return work.partition(" (")[0] if work.startswith(_UNTOLD) else None
    if isinstance(work, Mapping):
        for name, value in work.items():
            reason = untold(value)
            if reason:
                return reason if name == "function" else f"{name} {reason}"
    return None


def warn_if_untold(work: Any) -> None:
    """Tell the user, in one line, that what is kept of this work will not be reused."""
    reason = untold(work)
    if reason:
        warnings.warn(f"{reason}. What is kept of this work is never reused.", stacklevel=3)


def difference(kept: Any, work: Any) -> str:
    """The first difference of two pieces of work, in words; empty if they are the same.

    What was kept before there were identities is different work: nothing says of which model.
    """
    if not isinstance(kept, Mapping) or kept.get("identity") != work["identity"]:
        return "it does not say of which weights, functions and revision of the method"
    return _difference("", kept, work)


def _difference(name: str, kept: Any, work: Any) -> str:
    if isinstance(kept, Mapping) and isinstance(work, Mapping):
        keys = dict.fromkeys((*work, *kept))
        about = f"{name}: " if name in _PARTS else ""
        parts = (_difference(key, kept.get(key), work.get(key)) for key in keys)
        return next((about + words for words in parts if words), "")
    if kept == work:
        return ""
    reason = untold(work)
    if reason:
        return f"{name} {reason}"
    if all(isinstance(value, str) and _HASH.fullmatch(value) for value in (kept, work)):
        return f"other {name}"
    return f"{shortened(name)} was {shortened(repr(kept))}, is {shortened(repr(work))}"


def hashed(work: Any) -> str:
    """16 hex digits of a hash over plain data."""
    return hashlib.sha256(json.dumps(work, sort_keys=True).encode()).hexdigest()[:16]


# --- functions and what they hold


class _Untold(Exception):
    """Something whose content cannot be had; its text says what."""


_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(...), range, slice, re.Pattern)
_NAMED = (torch.dtype, torch.device, torch.layout, PurePath, np.dtype)
_STATELESS = (object, ABC, Generic, Protocol)  # bases that hold nothing beside vars()
# Of C: no code to read, and no state but that of their module.
_BUILT_IN = (
    *("builtin_function_or_method", "method_descriptor", "wrapper_descriptor", "ufunc"),
    *("member_descriptor", "getset_descriptor"),
)
_OF_EVERY_CLASS = (
    *("__dict__", "__weakref__", "__doc__", "__module__", "__annotations__", "__qualname__"),
    *("__firstlineno__", "__static_attributes__", "__annotate_func__", "__annotations_cache__"),
)


class _Content:
    """A hash over all that a value says. An object within itself is named by how deep it lies."""

    def __init__(self) -> None:
        self._within: list[int] = []
        self._hashes: dict[Any, tuple[Any, str]] = {}  # with the object, which thereby stays

    def of(self, value: Any, names: tuple[str, ...] = ()) -> str:
        """`names` are the names that count of a module. Raises `_Untold`."""
        if isinstance(value, _PLAIN):
            return f"{type(value).__name__} {value!r}"
        if id(value) in self._within:
            return f"again {self._within.index(id(value))}"
        key = id(value), names
        if key not in self._hashes:
            self._within.append(id(value))
            parts = [type(value).__qualname__, self._parts(value, names)]
            self._hashes[key] = value, hashed(parts)
            self._within.pop()
        return self._hashes[key][1]

    def _all(self, *values: Any) -> list[str]:
        return [self.of(value) for value in values]

    def _parts(self, value: Any, names: tuple[str, ...]) -> Any:
        match value:
            case torch.Tensor():
                rows = value.reshape(1) if value.ndim == 0 else value
                return [str(value.dtype), list(value.shape), checksum(rows)]
            case np.ndarray() | np.generic():
                return self._parts(_tensor(value), names)
            case Model():
                return of_model(value)
            case Circuit() | Graph() | Ablation():
                return value.to_json()
            case Mapping():
                return [self._all(*item) for item in value.items()]
            case list() | tuple():
                return self._all(*value)
            case Set():
                return sorted(self._all(*value))
            case FunctionType() | type() | ModuleType() if _is_installed(_module_of(value)):
                return _installed(value)
            case FunctionType():
                return self._function(value)
            case MethodType() | staticmethod() | classmethod():
                return self._all(getattr(value, "__self__", None), value.__func__)
            case property():
                return self._all(value.fget, value.fset, value.fdel)
            case functools.partial():
                return self._all(value.func, value.args, value.keywords)
            case CodeType():
                return self._code(value)
            case Enum():
                return [self.of(type(value)), value.name]
            case type():
                return self._class(value)
            case ModuleType():
                own = vars(value)
                return [value.__name__, [[n, self.of(own[n], names)] for n in names if n in own]]
        return self._object(value)

    def _function(self, function: FunctionType) -> Any:
        names = tuple(sorted({n for code in _codes(function.__code__) for n in code.co_names}))
        own = function.__globals__
        return [
            *self._all(function.__code__, function.__defaults__, function.__kwdefaults__),
            [self.of(_held(cell)) for cell in function.__closure__ or ()],
            # Attributes of the same name count as well: better once too often than never.
            [[n, self.of(own[n], names)] for n in names if n in own],
        ]

    def _code(self, code: CodeType) -> Any:
        counts = [code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags]
        names = [code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars]
        binary = [code.co_code.hex(), code.co_exceptiontable.hex()]
        return [*binary, counts, names, self._all(*code.co_consts)]

    def _class(self, kind: type) -> Any:
        # The methods that a dataclass is given are made of its fields, which count.
        made = "<string>" if dataclasses.is_dataclass(kind) else None
        members = [
            [name, self.of(member)]
            for name, member in sorted(vars(kind).items())
            if name not in _OF_EVERY_CLASS
            and not name.startswith(("_abc_", "__dataclass_"))
            and (made is None or getattr(member, "__code__", _codes.__code__).co_filename != made)
        ]
        return [kind.__qualname__, self._all(*kind.__bases__), members]

    def _object(self, value: Any) -> Any:
        kind = type(value)
        if isinstance(value, _NAMED):
            return repr(value)
        if kind.__name__ in _BUILT_IN:
            holder = getattr(value, "__self__", None)
            if holder is None or isinstance(holder, ModuleType | type):
                return _installed(value)
        if dataclasses.is_dataclass(value):
            state = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
            return self._all(kind, state)
        stateless = (b in _STATELESS or not _is_installed(b.__module__) for b in kind.__mro__)
        if hasattr(value, "__dict__") and (isinstance(value, torch.nn.Module) or all(stateless)):
            return self._all(kind, vars(value))
        raise _Untold(f"a {kind.__module__}.{kind.__qualname__}")


def _tensor(value: Any) -> torch.Tensor:
    try:
        return torch.from_numpy(np.ascontiguousarray(value)).reshape(value.shape)
    except TypeError as reason:
        raise _Untold(f"an array of {value.dtype}") from reason


def _held(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # a name that is not bound yet
        return None


def _codes(code: CodeType) -> Iterator[CodeType]:
    """This code and that of the functions within it."""
    yield code
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from _codes(const)


_FOLDERS = [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "purelib", "platlib")]


def _is_installed(module: str | None) -> bool:
    """Whether a module is Python's, Edgewise's or an installed package's: known by its version."""
    top = (module or "__main__").partition(".")[0]
    if top == "edgewise" or top in sys.stdlib_module_names:
        return top != "__main__"
    file = getattr(sys.modules.get(top), "__file__", None)
    return file is not None and any(map(Path(file).resolve().is_relative_to, _FOLDERS))


def _module_of(value: Any) -> str | None:
    return value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)


def _installed(value: Any) -> list[str]:
    """The name of what a package holds, and the package's version."""
    module = _module_of(value) or "builtins"
    top = module.partition(".")[0]
    version = str(getattr(sys.modules.get(top), "__version__", ""))
    if top in sys.stdlib_module_names:
        version = ".".join(map(str, sys.version_info[:2]))
    return [module, getattr(value, "__qualname__", repr(value)), version]
