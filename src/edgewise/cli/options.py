"""How options enter commands: one at a time, or as a group that a command takes as one parameter.

A group is a dataclass whose fields are `grouped` options, or `Settings`, those of the methods: no
option of a method, such as --threshold, is written here, each is a field of methods/settings.py.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field, fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from edgewise.methods import METHODS

PROBLEM, DETAILS, SETTING = "The problem", "More about the problem", "Settings of methods"
SPLITS = ("test", "discovery")
_PANELS = (PROBLEM, "Options", DETAILS)  # in the order of the help; settings are not shown
_METHODS = "A method's settings are options too, such as --threshold: see `edgewise methods NAME`."
# Metavars as versions of typer write them, and as the help does.
_METAVARS = {"INTEGER": "N", "FLOAT": "X", "TEXT": "NAME", "<int>": "N", "<float>": "X"}
_METAVARS |= {"<path>": "PATH", "<str>": "NAME", "<list[str]>": "A,B", " / ": "/"}
_PREFIXED = ("seed", "over")  # settings whose names are other options
_BY_NAME = inspect.Parameter.KEYWORD_ONLY


def option(default: Any, help_text: str, *flags: str) -> Any:
    """An option of one command: its default, its line of the help, its flags where not its name."""
    return typer.Option(default, *flags, help=help_text)


def grouped(
    help_text: str,
    default: Any = None,
    *,
    flags: str | None = None,
    panel: str = "Options",
    varies: bool = False,
) -> Any:
    """An option that is a field of a group; one that `varies` has several values in a sweep."""
    about = {"help": help_text, "flags": flags, "panel": panel, "varies": varies}
    return field(default=default, metadata=about)


def _method_names(incomplete: str) -> list[str]:
    return [name for name in METHODS if name.startswith(incomplete)]


_HOW = {"help": "How to find circuits: see `edgewise methods`.", "autocompletion": _method_names}
MethodName = Annotated[str, typer.Option("--method", **_HOW)]
MethodNames = Annotated[list[str] | None, typer.Option("--method", **_HOW)]
AllowCode = Annotated[
    bool, typer.Option("--allow-code", help="Run the Python file named in a run.")
]
CircuitFile = Annotated[Path, typer.Argument(help="A run folder, or a circuit file.")]
Split = Annotated[str, typer.Option(help="Prompts: test (held out), or discovery.")]
Random = Annotated[int, typer.Option(help="Random circuits of each kind.")]
Level = Annotated[float, typer.Option(help="Confidence of the intervals.")]
Quick = Annotated[bool, typer.Option("--quick", help="A small part of it: does it work?")]


class Settings(dict[str, Any]):
    """The settings that were given, by name: without defaults, and checked by `Method.resolve`."""


class Typed(dict[str, Any]):
    """Options as typed, several values each: `Annotated[Typed, Settings]` maps to lists of texts.

    An option of which a grid takes one value has it as it is.
    """


def method_options() -> dict[str, Any]:
    """Each setting of the methods with the type of its option, such as `float | None`."""
    kinds: dict[str, Any] = {}
    for method in METHODS.values():
        hints = get_type_hints(method.settings)
        for f in fields(method.settings):
            kinds[f.name] = str if get_origin(hints[f.name]) is Literal else hints[f.name]
    return {name: kind | None for name, kind in kinds.items()}


def option_name(setting: str) -> str:
    """A setting's option, without dashes in front: `method-seed` for `seed`."""
    name = f"method_{setting}" if setting in _PREFIXED else setting
    return name.replace("_", "-")


# --- groups of options as a command's parameters


def _setting_parameters(*, several: bool) -> Iterator[inspect.Parameter]:
    info = typer.Option(show_default=False, rich_help_panel=SETTING)
    for setting, kind in method_options().items():
        annotation: Any = Annotated[list[str] | None if several else kind, info]
        name = option_name(setting).replace("-", "_")
        yield inspect.Parameter(name, _BY_NAME, default=None, annotation=annotation)


def _field_parameters(group: Any, only: Sequence[str], *, several: bool) -> Iterator[Any]:
    hints = get_type_hints(group)
    for f in fields(group):
        if only and f.name not in only:
            continue
        about, kind, default = f.metadata, hints[f.name], f.default
        flags = about["flags"] or (f"--{f.name.replace('_', '-')}" if default is False else None)
        if several and about["varies"]:
            kind, default = list[str] | None, None
        info = typer.Option(
            *([flags] if flags else []),
            help=about["help"],
            show_default=False,
            rich_help_panel=about["panel"],
        )
        annotation: Any = Annotated[kind, info]
        yield inspect.Parameter(f.name, _BY_NAME, default=default, annotation=annotation)


def _options_of(annotation: Any) -> tuple[Any, list[inspect.Parameter]]:
    """The type of a group of options, and the options as parameters; none where it is no group."""
    kind, *only = get_args(annotation) if get_origin(annotation) is Annotated else (annotation,)
    several = kind is Typed
    group, *only = only if several else (kind, *only)
    if group is Settings:
        return kind, [*_setting_parameters(several=several)]
    return kind, [*_field_parameters(group, only, several=several)] if is_dataclass(group) else []


def _gathered(kind: Any, values: Mapping[str, Any], usual: Mapping[str, Any]) -> Any:
    """What a command gets for a group of options."""
    if kind not in (Settings, Typed):
        return kind(**values)
    typed = {k: v for k, v in values.items() if v not in (None, []) and v != usual[k]}
    return kind({name.removeprefix("method_"): value for name, value in typed.items()})


def expanded(command: Callable[..., None]) -> Callable[..., None]:
    """`command` with each parameter that is a group of options replaced by them, for typer."""
    groups: dict[str, tuple[Any, dict[str, Any]]] = {}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command, eval_str=True).parameters.items():
        kind, options = _options_of(parameter.annotation)
        parameters += options or [parameter]
        if options:
            groups[name] = kind, {option.name: option.default for option in options}

    @wraps(command)
    def run(**values: Any) -> None:
        for name, (kind, usual) in groups.items():
            values[name] = _gathered(kind, {key: values.pop(key) for key in usual}, usual)
        command(**values)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    del run.__wrapped__  # or inspect would look through to `command`
    return run


# --- help


class Command(TyperCommand):
    """A command whose help has the essentials first, and leaves out the settings of methods."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """One line an option, as far as it goes."""
        options = [p for p in self.get_params(ctx) if p.param_type_name == "option"]
        panels = [getattr(option, "rich_help_panel", None) or "Options" for option in options]
        for panel in _PANELS:
            chosen = [o for o, p in zip(options, panels, strict=True) if p == panel]
            records = [o.get_help_record(ctx) or ("", "") for o in chosen if o.name != "help"]
            if records:
                with formatter.section(panel):
                    formatter.write_dl([(_shortened(names), text) for names, text in records])
        if SETTING in panels:
            formatter.write_paragraph()
            formatter.write_text(_METHODS)


def _shortened(names: str) -> str:
    for long, short in _METAVARS.items():
        names = names.replace(long, short)
    return names


class ListsByDefault(TyperGroup):
    """`edgewise tasks` and `edgewise tasks --json` are `edgewise tasks list`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `list` in front where nothing else is."""
        lists = not args or args[0] == "--json"
        return super().parse_args(ctx, ["list", *args] if lists else args)
