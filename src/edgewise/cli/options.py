"""Options that commands share, each defined once, and how a group of options enters a command.

A command takes a group as one parameter, told by its type: `ProblemOptions` is what to work on,
`Settings` the settings of a method; `ProblemValues` and `SettingValues` have several values each.
No option of a method, such as --threshold, is written here: each is a field of methods/settings.py.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from edgewise.methods import METHODS

PROBLEM, DETAILS, SETTING = "The problem", "More about the problem", "Settings of methods"
_PANELS = (PROBLEM, "Options", DETAILS)  # in the order of the help; settings are not shown
_METHODS = "A method's settings are options too, such as --threshold: see `edgewise methods NAME`."
# Metavars as versions of typer write them, and as the help does.
_METAVARS = {"INTEGER": "N", "FLOAT": "X", "TEXT": "NAME", "<int>": "N", "<float>": "X"}
_METAVARS |= {"<path>": "PATH", "<str>": "NAME", "<list[str]>": "A,B", " / ": "/"}

Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else.")]
Force = Annotated[bool, typer.Option("--force", help="Replace output files that exist.")]
AllowCode = Annotated[
    bool, typer.Option("--allow-code", help="Run the Python file named in a run.")
]
Report = Annotated[Path | None, typer.Option(help="HTML page to write.")]
File = Annotated[Path | None, typer.Option("--out", help="JSON file for the result.")]
Kept = Annotated[Path | None, typer.Option(help="File that keeps circuits found, to resume from.")]
CircuitFile = Annotated[Path, typer.Argument(help="A run folder, or a circuit file.")]
Split = Annotated[str, typer.Option(help="Prompts: test (held out), or discovery.")]
Random = Annotated[int, typer.Option(help="Random circuits of each kind.")]
Level = Annotated[float, typer.Option(help="Confidence of the intervals.")]
Quick = Annotated[bool, typer.Option("--quick", help="A small part of it: does it work?")]


def _names(incomplete: str) -> list[str]:
    return [name for name in METHODS if name.startswith(incomplete)]


_METHOD = "How to find circuits: see `edgewise methods`."
MethodName = Annotated[str, typer.Option(help=_METHOD, autocompletion=_names)]
MethodNames = Annotated[
    list[str] | None,
    typer.Option("--method", help=_METHOD, autocompletion=_names),
]


def _option(help_text: str, default: Any = None, *, flags: str | None = None) -> Any:
    return field(default=default, metadata={"help": help_text, "flags": flags})


@dataclass(frozen=True)
class ProblemOptions:
    """What to work on: a task, or prompt pairs and a model."""

    task: str | None = _option("A name of `edgewise tasks`, or a Python file.")
    pairs: str | None = _option("Prompt pairs: JSON lines, JSON, CSV or Parquet.")
    model: str | None = _option("Bundled name, folder, GGUF file or hub name.")
    metric: str | None = _option("kl, logit-diff, ... Default: the task's, or kl.")
    ablation: str | None = _option("Outside the circuit: corrupted, zero, mean, mean-positional.")
    n: int | None = _option("How many prompts a task draws.")
    seed: int | None = _option("Seed of all that is drawn. Default: 0.")

    columns: str | None = _option("Of --pairs: clean=prompt,answers=target.")
    skip_faulty: bool = _option("Leave out bad prompts.", False, flags="--skip-faulty")
    corrupt: str | None = _option("--pairs by shuffle, random, random:SPAN.")
    data: str | None = _option("Kind of prompts: legal, paper, ...")
    template: str | None = _option("Sentences: see `edgewise tasks show`.")
    corruption: str | None = _option("How a task corrupts prompts: likewise.")
    bos: bool | None = _option("BOS before texts. Default: tokenizer's.", flags="--bos/--no-bos")
    chat: bool = _option("Texts as the user's turn in a chat.", False, flags="--chat")
    by_position: bool = _option("Every answer position is a prompt.", False, flags="--by-position")
    split_qkv: bool | None = _option("Heads read 3 times, or 1.", flags="--split-qkv/--joined-qkv")
    split_heads: bool | None = _option("Nodes: heads, or layers.", flags="--heads/--layers")
    split_embed: bool | None = _option(
        "Token and position embeddings apart.", flags="--split-embed/--joined-embed"
    )
    switches: bool | None = _option(
        "The paper's direct-computation edges.", flags="--switches/--no-switches"
    )
    ungroup_heads: bool | None = _option(
        "Keys and values by head, or by group.", flags="--ungroup-heads/--grouped-heads"
    )
    spans: str | None = _option("Positions apart: all, none, or S2,END.")
    batch_size: int | None = _option("Prompts run at a time; bounds memory.")
    dtype: str | None = _option("float64, float32, bfloat16 or float16.")
    device: str | None = _option("cpu, cuda, mps, auto; cuda:0,cuda:1.")
    processing: str = _option("none, or transformer-lens.", "none")


class Settings(dict[str, Any]):
    """The settings that were given, by name: without defaults, and checked by `Method.resolve`."""


class ProblemValues(dict[str, Any]):
    """Options of problems as typed: texts of several values each, and what has one value."""


class SettingValues(dict[str, list[str]]):
    """Settings of methods as typed: texts of several values each."""


# Options of a problem that a grid takes one value of.
_ONE_VALUE = (
    *("columns", "skip_faulty", "bos", "chat", "split_qkv", "split_heads", "split_embed"),
    *("switches", "ungroup_heads", "by_position", "spans", "batch_size", "device", "processing"),
)
_PREFIXED = ("seed", "over")  # settings whose names are other options
_BY_NAME = inspect.Parameter.KEYWORD_ONLY


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


def _problem_parameters(only: Sequence[str], *, several: bool) -> Iterator[inspect.Parameter]:
    essential = ("task", "pairs", "model", "metric", "ablation", "n", "seed")
    hints = get_type_hints(ProblemOptions)
    for f in fields(ProblemOptions):
        if only and f.name not in only:
            continue
        flags, panel = f.metadata["flags"], PROBLEM if f.name in essential else DETAILS
        option = typer.Option(
            *([flags] if flags else []), help=f.metadata["help"], show_default=False,
            rich_help_panel=panel,
        )  # fmt: skip
        kind, default = hints[f.name], f.default
        if several and f.name not in _ONE_VALUE:
            kind, default = list[str] | None, None
        yield inspect.Parameter(
            f.name, _BY_NAME, default=default, annotation=Annotated[kind, option]
        )


def _setting_parameters(*, several: bool) -> Iterator[inspect.Parameter]:
    option = typer.Option(show_default=False, rich_help_panel=SETTING)
    for name, kind in method_options().items():
        values = list[str] | None if several else kind
        annotation, parameter = Annotated[values, option], option_name(name).replace("-", "_")
        yield inspect.Parameter(parameter, _BY_NAME, default=None, annotation=annotation)


def _kind_and_parameters(annotation: Any) -> tuple[Any, list[inspect.Parameter]]:
    """The type of a group of options and the options; none where it is no group."""
    is_annotated = get_origin(annotation) is Annotated
    kind, *only = get_args(annotation) if is_annotated else (annotation,)
    if kind in (ProblemOptions, ProblemValues):
        return kind, [*_problem_parameters(only, several=kind is ProblemValues)]
    if kind in (Settings, SettingValues):
        return kind, [*_setting_parameters(several=kind is SettingValues)]
    return kind, []


def _gathered(kind: Any, values: Mapping[str, Any]) -> Any:
    """What a command gets for a group of options."""
    if kind is ProblemOptions:
        return ProblemOptions(**values)
    usual = {f.name: f.default for f in fields(ProblemOptions)}
    given = {k: v for k, v in values.items() if v is not None and v not in ([], usual.get(k))}
    return kind({name.removeprefix("method_"): value for name, value in given.items()})


def expanded(command: Callable[..., None]) -> Callable[..., None]:
    """`command` with each parameter that is a group of options replaced by them, for typer."""
    groups: dict[str, tuple[Any, list[str]]] = {}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command, eval_str=True).parameters.items():
        kind, options = _kind_and_parameters(parameter.annotation)
        parameters += options or [parameter]
        if options:
            groups[name] = kind, [option.name for option in options]

    @wraps(command)
    def run(**values: Any) -> None:
        for name, (kind, options) in groups.items():
            values[name] = _gathered(kind, {option: values.pop(option) for option in options})
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
