"""Options that commands share, each defined once, and how a group of options enters a command.

A command takes a group as one parameter, told by its type: `ProblemOptions` is what to work on,
`Settings` the settings of a method, `GridOptions` both with several values each.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import wraps
from pathlib import Path
from types import UnionType
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
    """The settings of a method that were given, by name."""


@dataclass(frozen=True)
class GridOptions:
    """Problems and settings as typed: lists of texts, and plain values of what has one value."""

    problem: Mapping[str, Any]
    settings: Mapping[str, Sequence[str]]


# Options of a problem that a grid takes one value of.
_ONE_VALUE = (
    *("columns", "skip_faulty", "bos", "chat", "split_qkv", "split_heads", "split_embed"),
    *("switches", "ungroup_heads", "by_position", "spans", "batch_size", "device", "processing"),
)
_PREFIXED = ("seed", "over")  # settings whose names are other options


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


@dataclass(frozen=True)
class _Group:
    """Options as typer sees them, and what the command gets for their values."""

    parameters: Sequence[inspect.Parameter]
    gather: Callable[[dict[str, Any]], Any]


def _problem_options(only: Sequence[str] = ()) -> _Group:
    hints = get_type_hints(ProblemOptions)
    chosen = [f for f in fields(ProblemOptions) if f.name in only or not only]
    parameters = [_problem_parameter(f, hints[f.name], f.default) for f in chosen]
    return _Group(parameters, lambda values: ProblemOptions(**values))


def _setting_options() -> _Group:
    names = {option_name(name).replace("-", "_"): name for name in method_options()}
    parameters = [
        _parameter(option, method_options()[name], None, panel=SETTING)
        for option, name in names.items()
    ]

    def gather(values: dict[str, Any]) -> Settings:
        return Settings({names[k]: v for k, v in values.items() if v is not None})

    return _Group(parameters, gather)


def _grid_options() -> _Group:
    hints, texts = get_type_hints(ProblemOptions), list[str] | None
    usual = {f.name: f.default for f in fields(ProblemOptions)}
    problem = [
        _problem_parameter(f, hints[f.name], f.default)
        if f.name in _ONE_VALUE
        else _problem_parameter(f, texts, None)
        for f in fields(ProblemOptions)
    ]
    names = {option_name(name).replace("-", "_"): name for name in method_options()}
    settings = [_parameter(option, texts, None, panel=SETTING) for option in names]

    def gather(values: dict[str, Any]) -> GridOptions:
        problem = {k: v for k, v in values.items() if k in usual}
        return GridOptions(
            {k: v for k, v in problem.items() if v not in (usual[k], None, [])},
            {names[k]: v for k, v in values.items() if k in names and v},
        )

    return _Group([*problem, *settings], gather)


def _problem_parameter(f: Any, annotation: Any, default: Any) -> inspect.Parameter:
    essential = ("task", "pairs", "model", "metric", "ablation", "n", "seed")
    flags, panel = f.metadata["flags"], PROBLEM if f.name in essential else DETAILS
    several = get_args(annotation) and get_args(annotation)[0] == list[str]
    flags = f"--{f.name.replace('_', '-')}" if several else flags
    return _parameter(f.name, annotation, default, flags, help_text=f.metadata["help"], panel=panel)


def _parameter(
    name: str,
    annotation: Any,
    default: Any,
    flags: str | None = None,
    *,
    help_text: str = "",
    panel: str,
) -> inspect.Parameter:
    option = typer.Option(
        default, *([flags] if flags else []), help=help_text, show_default=False,
        rich_help_panel=panel,
    )  # fmt: skip
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=option, annotation=annotation)


def _group_of(annotation: Any) -> _Group | None:
    if get_origin(annotation) is Annotated and get_args(annotation)[0] is ProblemOptions:
        return _problem_options(get_args(annotation)[1:])
    groups: dict[Any, Callable[[], _Group]] = {
        ProblemOptions: _problem_options,
        Settings: _setting_options,
        GridOptions: _grid_options,
    }
    is_type = isinstance(annotation, type) and not isinstance(annotation, UnionType)
    return groups[annotation]() if is_type and annotation in groups else None


def expanded(command: Callable[..., None]) -> Callable[..., None]:
    """`command` with each parameter that is a group of options replaced by them, for typer."""
    groups: dict[str, _Group] = {}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command, eval_str=True).parameters.items():
        group = _group_of(parameter.annotation)
        if group is None:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
        else:
            groups[name] = group
            parameters += group.parameters

    @wraps(command)
    def run(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group.gather({p.name: values.pop(p.name) for p in group.parameters})
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
