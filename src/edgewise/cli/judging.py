"""`edgewise stability`, `certify` and `test`: how sure a circuit is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edgewise.arguments import check_choice
from edgewise.cli.options import AllowCode, Force, Json, ProblemOptions, with_problem, with_settings
from edgewise.errors import SettingError, quoted

Out = Annotated[Path | None, typer.Option(help="JSON file to write the result into.")]
KeptIn = Annotated[
    Path | None,
    typer.Option(
        help="File that keeps circuits as they are found; a stopped command goes on from it."
    ),
]
Report = Annotated[Path | None, typer.Option(help="HTML page to write.")]
Seed = Annotated[int, typer.Option(help="Seed of what is drawn (--seed is the task's prompts').")]


@with_problem
@with_settings
def stability(
    problem: ProblemOptions,
    settings: dict[str, Any],
    method: Annotated[str, typer.Option(help="How circuits are found.")] = "acdc",
    over: Annotated[
        str,
        typer.Option(
            help="What varies: prompts, head-order, threshold, seed. Several with commas."
        ),
    ] = "prompts",
    replicates: Annotated[int, typer.Option(help="How many circuits to find.")] = 50,
    spread: Annotated[
        float, typer.Option(help="Over threshold: the largest factor up or down.")
    ] = 2.0,
    core: Annotated[float, typer.Option(help="Inclusion from which an edge is core.")] = 0.8,
    noise: Annotated[float, typer.Option(help="Inclusion up to which an edge is noise.")] = 0.2,
    level: Annotated[float, typer.Option(help="Confidence of the intervals.")] = 0.95,
    draw_seed: Seed = 0,
    out: Out = None,
    report: Report = None,
    journal: KeptIn = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Say how stable a method's circuit is over prompts, order of heads, thresholds or seeds.

    edgewise stability --task tracr-xproportion --threshold 0.01 --over prompts,head-order
    """
    from edgewise.cli import judgements, show
    from edgewise.cli.problems import build
    from edgewise.evaluation import stability as measure
    from edgewise.reporting import report as write_report
    from edgewise.storage import check_output_file, check_output_files

    _resolve(method, settings)
    check_output_files(out, report, overwrite=force)
    check_output_file(journal)
    with show.spinner("loading", quiet=json):
        built = build(problem)
    with show.progress_bar("replicates", quiet=json) as on_progress:
        found = measure(
            built.problem,
            method,
            n=replicates,
            over=[name.strip() for name in over.split(",") if name.strip()],
            seed=draw_seed,
            spread=spread,
            core=core,
            noise=noise,
            level=level,
            test=built.test,
            journal=journal,
            on_progress=on_progress,
            **{f"method_{name}": value for name, value in settings.items()},
        )
    if out is not None:
        found.save(out)
    if report is not None:
        write_report(found, report)
    if json:
        show.as_json(found.to_json() | {"out": None if out is None else str(out)})
    else:
        judgements.print_stability(found, out, report)


@with_problem
@with_settings
def certify(
    problem: ProblemOptions,
    settings: dict[str, Any],
    method: Annotated[str, typer.Option(help="How circuits are found.")] = "acdc",
    subsamples: Annotated[int, typer.Option(help="How many subsamples vote.")] = 200,
    size: Annotated[
        int | None, typer.Option(help="Prompts in a subsample. Default: half of them.")
    ] = None,
    level: Annotated[float, typer.Option(help="Confidence of all certificates together.")] = 0.95,
    draw_seed: Seed = 0,
    out: Out = None,
    journal: KeptIn = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Say which decisions about edges no deletion of a few prompts can turn.

    edgewise certify --task tracr-reverse --threshold 0.01 --size 3
    """
    from edgewise.cli import judgements, show
    from edgewise.cli.problems import build
    from edgewise.evaluation import certify as vote
    from edgewise.storage import check_output_file, check_output_files

    _resolve(method, settings)
    check_output_files(out, overwrite=force)
    check_output_file(journal)
    with show.spinner("loading", quiet=json):
        built = build(problem)
    with show.progress_bar("subsamples", quiet=json) as on_progress:
        found = vote(
            built.problem,
            method,
            n=subsamples,
            size=size,
            level=level,
            seed=draw_seed,
            journal=journal,
            on_progress=on_progress,
            **{f"method_{name}": value for name, value in settings.items()},
        )
    if out is not None:
        found.save(out)
    if json:
        show.as_json(found.to_json() | {"out": None if out is None else str(out)})
    else:
        judgements.print_certified(found, out)


@with_problem
def test(
    circuit: Annotated[Path, typer.Argument(help="A run folder, or a circuit file.")],
    problem: ProblemOptions,
    split: Annotated[
        str, typer.Option(help="Prompts to test on: test (held out) or discovery.")
    ] = "test",
    alpha: Annotated[float, typer.Option(help="Error rate of the tests together.")] = 0.05,
    epsilon: Annotated[
        float, typer.Option(help="Equivalence: the difference that does not count.")
    ] = 0.1,
    quantile: Annotated[
        float, typer.Option(help="The share of random circuits, or edges, to outdo.")
    ] = 0.9,
    n_random: Annotated[int, typer.Option(help="How many random circuits.")] = 100,
    n_permutations: Annotated[int, typer.Option(help="How many permutations.")] = 1000,
    max_edges: Annotated[
        int | None, typer.Option(help="Minimality: test so many edges, chosen at random.")
    ] = None,
    correction: Annotated[
        str, typer.Option(help="For several tests: holm, benjamini-hochberg, none.")
    ] = "holm",
    draw_seed: Seed = 0,
    out: Out = None,
    report: Report = None,
    force: Force = False,
    allow_code: AllowCode = False,
    json: Json = False,
) -> None:
    """Test a circuit: equivalence, independence, minimality, sufficiency, partial necessity.

    edgewise test runs/reverse
    """
    from edgewise.cli import judgements, show
    from edgewise.cli.problems import circuit_and_problem
    from edgewise.evaluation import hypothesis_tests
    from edgewise.reporting import report as write_report
    from edgewise.storage import check_output_files

    if split not in ("test", "discovery"):
        raise SettingError(f"split is {quoted(split)}; it must be 'test' or 'discovery'.")
    check_choice("correction", correction, ("holm", "benjamini-hochberg", "none"))
    check_output_files(out, report, overwrite=force)
    with show.spinner("loading", quiet=json):
        found, built = circuit_and_problem(circuit, problem, allow_code=allow_code)
    held_out = split == "test" and built.test is not None
    on = built.test if held_out and built.test is not None else built.problem
    with show.progress_bar("testing", quiet=json) as on_progress:
        tests = hypothesis_tests(
            on,
            found,
            alpha=alpha,
            epsilon=epsilon,
            quantile=quantile,
            n_random=n_random,
            n_permutations=n_permutations,
            max_edges=max_edges,
            correction=correction,  # type: ignore[arg-type]  # checked above
            seed=draw_seed,
            split="held-out" if held_out else "discovery",
            on_progress=on_progress,
        )
    if out is not None:
        tests.save(out)
    if report is not None:
        write_report(tests, report)
    if json:
        show.as_json(tests.to_json() | {"out": None if out is None else str(out)})
    else:
        judgements.print_tests(tests, out, report)


def _resolve(method: str, settings: dict[str, Any]) -> None:
    """Refuse settings before anything is loaded."""
    from edgewise.methods import method_of

    method_of(method).resolve(settings)
