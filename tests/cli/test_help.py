"""Help fits a screen and waits for nothing; an option means one thing; shells complete."""

import os
import subprocess
import sys

import pytest
import typer

from commands import ok
from edgewise.cli.main import app
from edgewise.cli.options import SETTING, method_options, option_name
from edgewise.methods import METHODS


def commands(group=None, path=()):
    """Every command with the words that call it."""
    for name, command in (group or typer.main.get_command(app)).commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = dict(commands())


@pytest.mark.parametrize("words", [(), *COMMANDS], ids=" ".join)
def test_help_fits_a_screen(words, capsys):
    out = ok(capsys, *words, "--help")
    lines = out.splitlines()
    assert len(lines) <= 60
    assert max(map(len, lines)) <= 80
    assert ok(capsys, *words, "-h") == out
    if words:
        example = f"edgewise {' '.join(words)}"
        assert words[-1] == "list" or words == ("models", "check") or f"  {example} " in out


def test_methods_fit_a_screen_and_one_is_told_in_full(capsys):
    lines = ok(capsys, "methods").splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 80
    assert [name for name in METHODS if not any(line.startswith(name) for line in lines)] == []
    for name, method in METHODS.items():
        lines = ok(capsys, "methods", name).splitlines()
        assert max(map(len, lines)) <= 80
        shown = " ".join(lines)
        assert all(f"--{option_name(f)}" in shown for f in method.settings.__dataclass_fields__)


def test_settings_are_options_that_help_does_not_show(capsys):
    settings = {f"--{option_name(name)}" for name in method_options()}
    for name in ("discover", "compare", "stability", "certify", "sweep"):
        options = {o.opts[0] for o in COMMANDS[name,].params if o.rich_help_panel == SETTING}
        assert options == settings
        assert "`edgewise" in ok(capsys, name, "--help").partition("settings are options too")[2]


def test_an_option_means_the_same_in_every_command():
    texts = {}
    for words, command in COMMANDS.items():
        for option in command.params:
            if option.param_type_name == "option" and option.name not in ("help", "out"):
                meaning = (option.help or "").partition(":")[0]  # then the command's choices
                texts.setdefault(option.opts[0], {}).setdefault(meaning, []).append(words)
    assert {name: text for name, text in texts.items() if len(text) > 1} == {}
    seeds = [name for name in texts if "seed" in name]
    assert seeds == ["--seed", "--method-seed", "--seeds"]


def test_help_waits_for_no_library():
    code = (
        "import sys, edgewise\n"
        "from edgewise.cli.main import main\n"
        f"for words in {[[], *map(list, COMMANDS)]!r}:\n"
        "    try: main([*words, '--help'])\n"
        "    except SystemExit as stop: assert not stop.code\n"
        "assert not {'torch', 'transformers', 'scipy'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "completions"),
    [
        ("edgewise dis", ["discover"]),
        ("edgewise discover --thr", ["--threshold"]),
        ("edgewise discover --method acdc-b", ["acdc-bisect"]),
    ],
)
def test_shells_complete(words, completions):
    asking = {"_EDGEWISE_COMPLETE": "complete_bash", "COMP_WORDS": words}
    asking["COMP_CWORD"] = str(len(words.split()) - 1)
    command = [sys.executable, "-m", "edgewise.cli.main"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | asking)
    assert done.stdout.split() == completions


@pytest.mark.parametrize("command", ["methods", "models --json", "discover --help"])
def test_a_reader_that_goes_away_ends_the_command_quietly(command):
    line = f"{sys.executable} -m edgewise {command} | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
