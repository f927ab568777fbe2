"""Results as JSON and files: one way out of, and back into, every frozen record.

A record's JSON holds its fields, then the properties that `_derived` names, for readers. Only the
fields come back, each checked against its type; circuits, graphs and tensors are read by their own
rules. A result that is a file of its own adds a format and a version.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, TypedDict, TypeVar, get_type_hints

import msgspec
import torch
from torch import Tensor

from edgewise.circuit import Circuit
from edgewise.documents import Finite, decoded, imported, read_json, write_json
from edgewise.graph import Edge, Graph, Node
from edgewise.tables import Chart, Table

R = TypeVar("R", bound="Record")
S = TypeVar("S", bound="SavedRecord")


class Record:
    """Base of frozen dataclasses that JSON holds; results among them have sentences too."""

    _derived: ClassVar[tuple[str, ...]] = ()

    def tables(self) -> tuple[Table, ...]:
        """None, unless a result has more to say than its sentences."""
        return ()

    def charts(self) -> tuple[Chart, ...]:
        """None, unless a result has a picture."""
        return ()

    def to_json(self) -> dict[str, Any]:
        """Every field, and what follows from them."""
        names = [field.name for field in fields(self)] + list(self._derived)  # type: ignore[arg-type]
        values = {name: getattr(self, name) for name in names}
        return written({n: value() if callable(value) else value for n, value in values.items()})

    @classmethod
    def from_json(cls: type[R], document: Any, *, source: str = "result") -> R:
        """The result of `to_json`. Raises `FormatError`, naming the field at fault."""
        hints = get_type_hints(cls, include_extras=True)
        kinds = {field.name: hints[field.name] for field in fields(cls)}  # type: ignore[arg-type]
        graphs = {name: kind for name, kind in kinds.items() if kind in (Circuit, Graph)}
        plain: Any = TypedDict("plain", {n: k for n, k in kinds.items() if n not in graphs})  # type: ignore[misc]
        values: Any = decoded(plain, document, source, hook=read_tensor)
        for name, kind in graphs.items():
            values[name] = kind.from_json(document.get(name), source=f"{source}: {name}")
        return cls(**values)


class SavedRecord(Record):
    """Base of results that are files of their own, with a format and a version."""

    FORMAT: ClassVar[str]
    VERSION: ClassVar[int]

    def to_json(self) -> dict[str, Any]:
        """Everything, with the number of the format."""
        return {"format": self.FORMAT, "version": self.VERSION, **super().to_json()}

    @classmethod
    def from_json(cls: type[S], document: Any, *, source: str = "result") -> S:
        """The result of `to_json`. Raises `FormatError`, naming the field at fault."""
        current = imported(document, source, kind=cls.FORMAT, version=cls.VERSION)
        return super().from_json(current, source=f"{source}: not a complete {cls.FORMAT} file")

    def save(self, path: str | Path) -> Path:
        """Write it as JSON, all of it or nothing. Raises `OutputError`."""
        return write_json(self.to_json(), Path(path))

    @classmethod
    def load(cls: type[S], path: str | Path) -> S:
        """Read it from a file. Raises `FormatError`."""
        kind = cls.FORMAT.removeprefix("edgewise-")
        return cls.from_json(read_json(Path(path), kind), source=str(path))


def written(value: Any) -> Any:
    """A value as JSON: names of nodes and edges, fields of records, lists of numbers."""
    match value:
        case Edge() | Node():
            return value.name
        case Circuit() | Graph() | Record():
            return value.to_json()
        case Tensor():
            return value.tolist()
        case Mapping():
            return {getattr(key, "name", key): written(item) for key, item in value.items()}
        case tuple() | list():
            return [written(item) for item in value]
    if not is_dataclass(value):
        return value
    return {field.name: written(getattr(value, field.name)) for field in fields(value)}


def read_tensor(kind: Any, value: Any) -> Any:
    """A tensor of numbers, for `decoded`."""
    assert kind.array_type is Tensor  # no record has a field of another foreign type
    return torch.tensor(msgspec.convert(value, list[Finite]), dtype=torch.float64)
