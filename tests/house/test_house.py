"""The house keeps its size and its order: figures of `scripts/house.py`, each with a limit."""

import pytest

import house
import plant_faults

# No figure may rise above its limit; a change that lowers one lowers its limit too.
LIMITS = {
    "lines of src": 32_300,
    "statements of src": 18_900,
    "characters a line": 47.3 * 1.05,
    "lines of tests": 19_000,
    "upward imports": 0,
    "import circles": 0,
    "repeated stems and class names": 0,
    "functions over 60 lines": 0,
    "public functions of more than three positional parameters": 0,
    "identifiers of the old dialect": 0,
}


@pytest.fixture(scope="module")
def figures():
    return house.figures()


@pytest.mark.parametrize("name", LIMITS)
def test_no_figure_rises_above_its_limit(figures, name):
    assert figures[name] <= LIMITS[name], f"python scripts/house.py --list says which: {name}"


def test_the_figures_see_what_they_count(tmp_path, monkeypatch):
    """A package with one fault of each kind is told of each."""
    package = tmp_path / "edgewise"
    for name, text in {
        "errors.py": "import edgewise.graph.shape\n",
        "graph/shape.py": "from edgewise.graph import names\nclass Shape: ...\n",
        "graph/names.py": "from edgewise.graph.shape import Shape\n",
        "data/shape.py": "class Shape: ...\ndef read(a, b, c, d): ...\ntwin_prompt = 1\n",
        "model/long.py": "def long():\n" + "    pass\n" * 60,
    }.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    monkeypatch.setattr(house, "SRC", package)
    written = house.sources(package)
    monkeypatch.setattr(house, "sources", lambda: written)
    house.modules.cache_clear()
    try:
        assert house.upward_imports() == ["errors.py imports edgewise.graph.shape"]
        assert house.import_circles() == ["edgewise.graph.names, edgewise.graph.shape"]
        assert sorted(house.repeated_names()) == [
            "class Shape: data/shape.py, graph/shape.py",
            "shape.py: data/shape.py, graph/shape.py",
        ]
        assert house.long_functions() == ["model/long.py: long, 61 lines"]
        assert house.many_positional() == ["data/shape.py: read(a, b, c, d)"]
        assert house.dialect() == ["data/shape.py: twin_prompt"]
    finally:
        house.modules.cache_clear()


def test_every_planted_fault_has_its_place():
    """`python scripts/plant_faults.py` plants them, which takes minutes; their places are here."""
    planted = plant_faults.faults()
    assert len(planted) >= 30
    for fault in planted:
        text = (house.SRC / fault.file).read_text(encoding="utf-8")
        assert fault.planted(text) != text
        assert all((house.ROOT / test).exists() for test in fault.tests), fault.name
