"""Command options made from dataclass fields, so that a setting is written down once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from functools import wraps
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer

from edgewise.methods import METHODS

Json = Annotated[bool, typer.Option("--json", help="Print results as JSON, and nothing else.")]
Force = Annotated[bool, typer.Option("--force", help="Replace output files that exist.")]
AllowCode = Annotated[
    bool,
    typer.Option("--allow-code", help="Run the Python file that a run's record names as its task."),
]


def _option(help_text: str, default: Any = None, flags: str | None = None) -> Any:
    return field(default=default, metadata={"help": help_text, "flags": flags})


@dataclass(frozen=True)
class ProblemOptions:
    """How a command is told what problem to work on: a task, or prompt pairs and a model."""

    task: str | None = _option(
        "A named behaviour (see `edgewise tasks`), or a Python file that defines one."
    )
    pairs: str | None = _option(
        "A file of prompt pairs, instead of a task: JSON lines, JSON, CSV or Parquet."
    )
    columns: str | None = _option(
        "The names that --pairs has its columns under: clean=prompt,answers=target; "
        "nothing after = leaves one out."
    )
    skip_faulty: bool = _option(
        "Leave out prompts of --pairs that cannot be used, and say which.", False
    )
    corrupt: str | None = _option(
        "Corrupted prompts for --pairs without: shuffle, random, or random:SPAN."
    )
    model: str | None = _option("Bundled name, folder or hub name. Default: the task's own.")
    metric: str | None = _option(
        "kl, logit-diff, prob-diff, nll, match-nll, accuracy, … Default: the task's; kl for pairs."
    )
    ablation: str | None = _option(
        "What removed edges carry: corrupted, zero, mean, mean-positional. Default: the task's; "
        "corrupted for pairs."
    )
    n: int | None = _option("How many prompts a task draws.")
    seed: int | None = _option("Seed of a task's prompts, or of --corrupt. Default: 0.")
    data: str | None = _option("Kind of prompts, where a task has several (legal, paper).")
    template: str | None = _option("Sentences of a language task; see `edgewise tasks show NAME`.")
    corruption: str | None = _option("How a language task's prompts are corrupted; likewise.")
    bos: bool | None = _option(
        "BOS before each text, or not. Default: as the tokenizer does by itself, or the paper.",
        None,
        "--bos/--no-bos",
    )
    chat: bool = _option(
        "Each text is the user's turn in the tokenizer's chat template. Default: the bare text.",
        False,
        "--chat",
    )
    by_position: bool = _option(
        "Average the metric over all answer positions, as the original ACDC code, instead of over "
        "prompts' means: every position becomes a prompt of its own.",
        False,
        "--by-position",
    )
    split_qkv: bool | None = _option(
        "Heads read three times, or once.", None, "--split-qkv/--joined-qkv"
    )
    split_heads: bool | None = _option(
        "Nodes are heads, or whole attention layers.", None, "--heads/--layers"
    )
    split_embed: bool | None = _option(
        "Token and position embeddings apart, or one input.", None, "--split-embed/--joined-embed"
    )
    switches: bool | None = _option(
        "Count the paper's direct-computation edges.", None, "--switches/--no-switches"
    )
    ungroup_heads: bool | None = _option(
        "Keys and values read by every head, or by each group that shares them.",
        None,
        "--ungroup-heads/--grouped-heads",
    )
    spans: str | None = _option(
        "Positions apart: 'all' spans that the prompts name, or some of them, as in S2,END; all "
        "other positions are 'rest'. 'none' if the task has them apart. Default: together."
    )
    batch_size: int | None = _option("Prompts run at a time; bounds memory.")
    dtype: str | None = _option("float64, float32, bfloat16 or float16. Default: the model's own.")
    device: str | None = _option(
        "cpu, cuda, mps; several share the layers: cuda:0,cuda:1; auto. Default: where it loads."
    )
    processing: str = _option("none, or transformer-lens (fold norms and value biases).", "none")


@dataclass(frozen=True)
class MethodOption:
    """A setting of one or more methods, as an option that is None unless given."""

    name: str
    annotation: Any
    help: str

    @property
    def parameter(self) -> str:
        """The option's name: another one where the problem has an option called so (seed)."""
        taken = {f.name for f in fields(ProblemOptions)}
        return f"method_{self.name}" if self.name in taken else self.name


def method_options() -> list[MethodOption]:
    """Every setting of every method, in order, with the methods it belongs to.

    A setting that several methods share is one option; where they mean it differently, it says so.
    """
    kinds: dict[str, Any] = {}
    texts: dict[str, dict[str, list[str]]] = {}  # setting -> what is said of it -> methods
    for method in METHODS.values():
        hints = get_type_hints(method.settings)
        for f in fields(method.settings):
            kinds[f.name] = str if get_origin(hints[f.name]) is Literal else hints[f.name]
            text = f"{f.metadata['help']} {_default_text(f)}"
            texts.setdefault(f.name, {}).setdefault(text, []).append(method.name)
    return [
        MethodOption(
            name,
            kinds[name] | None,
            " ".join(f"{text}({_some(methods)})" for text, methods in said.items()),
        )
        for name, said in texts.items()
    ]


def _some(methods: Sequence[str]) -> str:
    """The first few of a list of names."""
    shown = ", ".join(methods[:3])
    return shown if len(methods) <= 3 else f"{shown}, …"


def _default_text(f: Field[Any]) -> str:
    if f.default is MISSING:
        return "Required. "
    return f"Default: {str(f.default).lower() if isinstance(f.default, bool) else f.default}. "


def choices_of(annotation: Any) -> tuple[str, ...]:
    """The values of a Literal, for help tables."""
    return tuple(str(value) for value in get_args(annotation))


def with_problem(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `ProblemOptions`, as its argument `problem`."""
    hints = get_type_hints(ProblemOptions)
    parameters = [
        _parameter(f.name, hints[f.name], f.default, f.metadata, panel="The problem")
        for f in fields(ProblemOptions)
    ]

    def gather(values: dict[str, Any]) -> dict[str, Any]:
        chosen = {p.name: values.pop(p.name) for p in parameters}
        return {**values, "problem": ProblemOptions(**chosen)}

    return _expanded(command, "problem", parameters, gather)


_PANEL = "Settings of the method"


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command every method's settings; those given are its argument `settings`.

    A setting with the name of one of the command's own options becomes `--method-NAME` there.
    """
    own = inspect.signature(command).parameters
    names = {f"method_{o.name}" if o.name in own else o.parameter: o.name for o in method_options()}
    parameters = [
        _parameter(parameter, o.annotation, None, {"help": o.help}, panel=_PANEL)
        for parameter, o in zip(names, method_options(), strict=True)
    ]

    def gather(values: dict[str, Any]) -> dict[str, Any]:
        chosen = {names[p.name]: values.pop(p.name) for p in parameters}
        return {**values, "settings": {k: v for k, v in chosen.items() if v is not None}}

    return _expanded(command, "settings", parameters, gather)


# Options of a problem that a sweep takes one value of.
_ONE_VALUE = (
    *("columns", "skip_faulty", "bos", "chat", "split_qkv", "split_heads", "split_embed"),
    *("switches", "spans"),
    *("batch_size", "device", "processing"),
)


@dataclass(frozen=True)
class Typed:
    """What a sweep was asked, as typed: lists of texts, and plain values of what has one value."""

    problem: Mapping[str, Any]
    settings: Mapping[str, Sequence[str]]


def with_values(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of problems and methods with several values, as `typed`."""
    hints = get_type_hints(ProblemOptions)
    problem = [
        _parameter(f.name, hints[f.name], f.default, f.metadata, panel="The problem")
        if f.name in _ONE_VALUE
        else _parameter(f.name, list[str] | None, None, f.metadata, panel="The problem")
        for f in fields(ProblemOptions)
    ]
    own = inspect.signature(command).parameters
    names = {f"method_{o.name}" if o.name in own else o.parameter: o.name for o in method_options()}
    settings = [
        _parameter(parameter, list[str] | None, None, {"help": o.help}, panel=_PANEL)
        for parameter, o in zip(names, method_options(), strict=True)
    ]

    def gather(values: dict[str, Any]) -> dict[str, Any]:
        usual = {f.name: f.default for f in fields(ProblemOptions)}
        asked = {p.name: values.pop(p.name) for p in problem}
        chosen = {names[p.name]: values.pop(p.name) for p in settings}
        typed = Typed(
            {k: v for k, v in asked.items() if v not in (usual[k], None, [])},
            {k: v for k, v in chosen.items() if v},
        )
        return {**values, "typed": typed}

    return _expanded(command, "typed", [*problem, *settings], gather)


def _parameter(
    name: str, annotation: Any, default: Any, metadata: Mapping[str, Any], *, panel: str
) -> inspect.Parameter:
    flags = metadata.get("flags")
    option = typer.Option(
        default,
        *([flags] if flags else []),
        help=metadata["help"],
        show_default=False,
        rich_help_panel=panel,
    )
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=option, annotation=annotation
    )


def _expanded(
    command: Callable[..., None],
    replaced: str,
    parameters: Sequence[inspect.Parameter],
    gather: Callable[[dict[str, Any]], dict[str, Any]],
) -> Callable[..., None]:
    """`command` with one parameter replaced by many, as far as typer can see."""

    @wraps(command)
    def expanded(**values: Any) -> None:
        command(**gather(values))

    own = [
        p.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for p in inspect.signature(command, eval_str=True).parameters.values()
        if p.name != replaced
    ]
    every = [*own, *parameters]
    expanded.__signature__ = inspect.Signature(every)  # type: ignore[attr-defined]
    expanded.__annotations__ = {p.name: p.annotation for p in every}
    del expanded.__wrapped__  # or inspect would look through to `command`
    return expanded
