"""The documentation says what there is: every command, method, metric, ablation; examples run."""

import re
from pathlib import Path

import pytest

from edgewise.cli.main import app
from edgewise.methods import METHODS
from edgewise.methods.settings import SelectionSettings, ThresholdSettings
from edgewise.metrics import METRICS
from edgewise.patching import ABLATION_KINDS

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
REFERENCE = (ROOT / "docs" / "reference.md").read_text()
SHARED = (SelectionSettings, ThresholdSettings)  # described with the first method that has them


COMMANDS = [c.name or c.callback.__name__ for c in app.registered_commands]
for group in app.registered_groups:
    COMMANDS += [
        f"{group.name} {c.name or c.callback.__name__}"
        for c in group.typer_instance.registered_commands
    ]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_documented(name):
    assert f"`edgewise {name}`" in REFERENCE


def test_every_metric_and_ablation_is_documented_with_its_unit():
    for metric in METRICS.values():
        row = next(line for line in REFERENCE.splitlines() if line.startswith(f"| `{metric.name}`"))
        better = "higher" if metric.higher_is_better else "lower"
        assert row.endswith(f"| {metric.unit} | {better} |")
    for kind in ABLATION_KINDS:
        assert f"| `{kind}` |" in REFERENCE


@pytest.mark.parametrize("name", METHODS)
def test_every_method_and_setting_is_documented_with_its_default(name):
    chapter = REFERENCE.partition("\n## Methods\n")[2].partition("\n## ")[0]
    section = chapter.partition(f"### {name}\n")[2].partition("\n### ")[0]
    assert section
    settings = METHODS[name].settings
    for field in settings.__dataclass_fields__.values():
        default = (
            "required" if repr(field.default).startswith("<") else f"`{field.default}`".lower()
        )
        # What methods share is in one place: with the first that has it, or under Selection.
        own = field.name in settings.__annotations__ and settings not in SHARED
        lines = (section if own else chapter).splitlines()
        rows = [line for line in lines if line.startswith(f"| `{field.name}`")]
        assert default in [row.split(" | ")[1] for row in rows], field.name


def _examples():
    for page in PAGES:
        for i, code in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)):
            yield pytest.param(code, id=f"{page.name}-{i}")


@pytest.mark.parametrize("code", list(_examples()))
def test_examples_run(code, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "example", "exec"), {})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_the_tree_in_the_readme_is_the_tree():
    tree = (ROOT / "README.md").read_text().partition("```\nsrc/edgewise/")[2].partition("```")[0]
    named = re.findall(r"^ {2}(\w+(?:/|\.py)) ", tree, re.MULTILINE)
    package = ROOT / "src" / "edgewise"
    there = [p.name + "/" if p.is_dir() else p.name for p in package.iterdir()]
    hidden = {"__init__.py", "__pycache__/", "py.typed", "__init__.pyi", "functions.pyi"}
    assert sorted(named) == sorted(set(there) - hidden)
    for name in re.findall(r"^(\w+)/", tree, re.MULTILINE):
        assert (ROOT / name).is_dir()


def test_the_page_about_programs_holds_the_benchmarks_numbers():
    import json

    results = json.loads((ROOT / "benchmarks" / "results" / "programs.json").read_text())
    page = (ROOT / "docs" / "programs.md").read_text()
    for row in results["rows"]:
        found = row["zero"]["descending"]
        start = f"| {row['program']} | {row['edges']} | {row['true_edges']} | {found['found']} + "
        assert start in page
