"""Tables as data: how cells are written, and that importing them costs nothing."""

import subprocess
import sys

import pytest

from edgewise.tables import Column, Table, cell_text, facts


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (None, "number", "–"),
        (0.23163, "number", "0.2316"),
        (-12345.6, "number", "−12,346"),
        (32491, "count", "32,491"),
        (0.9999, "share", "over 99.9 %"),
        (1.0, "share", "100 %"),
        (-0.126, "index", "−0.13"),
        (3725.0, "seconds", "1 h 02 min"),
        ((0.8, 0.95), "interval", "0.8 to 0.95"),
        ((0.9, 0.8, 0.95), "estimate", "0.9 (0.8 to 0.95)"),
        (0.9, "estimate", "0.9"),
        (True, "flag", "yes"),
        (False, "flag", ""),
        (False, "text", "no"),
        ("a0.h1->m0", "name", "a0.h1->m0"),
    ],
)
def test_a_cell_is_written_by_its_column(value, kind, text):
    assert cell_text(value, kind) == text


def test_a_table_holds_values_and_writes_them():
    table = Table(
        "Edges", (Column("edge", "name"), Column("effect", "number", "nats")), (("e", 1.5),)
    )
    assert [column.heading for column in table.columns] == ["edge", "effect (nats)"]
    assert [column.is_numeric for column in table.columns] == [False, True]
    assert table.cells() == [("e", "1.5")]
    assert Column("inclusion", "estimate", "share").heading == "inclusion"
    assert facts("Of it", {"edges": "3 of 4"}).cells() == [("edges", "3 of 4")]


def test_tables_need_no_torch():
    code = "import edgewise.tables, sys; assert not {'torch', 'scipy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
