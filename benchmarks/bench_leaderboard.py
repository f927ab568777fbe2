"""How well does every method find what the weights of compiled programs really use?

Command:  python benchmarks/bench_leaderboard.py [--out FOLDER]    (25 minutes)

The board of docs/leaderboard.md: methods that need no training on all programs, ablations and
three seeds; those that train (1,000 steps) on the small programs below, two ablations and one
seed. It is kept trial by trial in FOLDER, where `edgewise leaderboard --out FOLDER` may have begun;
the same command goes on after a stop. Writes benchmarks/results/leaderboard.json,
docs/leaderboard.html, and the table of docs/leaderboard.md between its two markers.
"""

import argparse
import shutil
from pathlib import Path

import torch

import edgewise as ew
from edgewise.recipes import AREAS, USUAL
from results import FOLDER

TRAINED_ON = {
    "programs": [
        "and-gate",
        "or-gate",
        "tracr-count",
        "tracr-detect",
        "tracr-histogram",
        "tracr-parity",
        "tracr-reverse",
        "tracr-sort",
    ],
    "ablations": ["zero", "corrupted"],
    "seeds": 1,
}
DOCS = Path(__file__).parent.parent / "docs"
START, END = "<!-- table: bench_leaderboard.py -->", "<!-- end of table -->"


def main(out: Path) -> None:
    """Run what is missing, and publish what there is."""
    torch.set_num_threads(1)  # the models are tiny: a second thread costs more than it gives
    ew.leaderboard(USUAL, out=out)
    publish(ew.leaderboard(["trained"], **TRAINED_ON, out=out), out)


def publish(board: ew.Leaderboard, out: Path) -> None:
    """The page, the numbers and the table, where they are committed."""
    board.save(out)
    shutil.copy(out / "leaderboard.json", FOLDER / "leaderboard.json")
    ew.report(board, DOCS / "leaderboard.html")
    page = DOCS / "leaderboard.md"
    text = page.read_text(encoding="utf-8")
    head, _, rest = text.partition(START)
    _, _, tail = rest.partition(END)
    page.write_text(f"{head}{START}\n{table(board)}\n{END}{tail}", encoding="utf-8")
    print(table(board))


def table(board: ew.Leaderboard) -> str:
    """The rows in Markdown; every number with its 95 % interval over programs."""
    ablations = board.values("ablation")
    heads = ["rank", "method", "average precision", "pessimistic AUC", *ablations, "n"]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for row in board.rows:
        rank = "–" if row.rank is None else f"{row.rank} ({row.rank_low}–{row.rank_high})"
        areas = [row.areas[area] for area in AREAS[:2]]
        cells = [rank, f"`{row.method}`"]
        cells += [f"{area.mean:.3f} ({area.low:.3f}–{area.high:.3f})" for area in areas]
        means = [row.by_ablation.get(name) for name in ablations]
        cells += ["–" if m is None else f"{m.mean:.3f} ({m.n_programs})" for m in means]
        cells.append(f"{row.n_programs} programs, {row.n_problems} problems")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("boards/all"), help="folder of the board")
    parser.add_argument("--publish", action="store_true", help="run nothing, publish what is there")
    asked = parser.parse_args()
    if asked.publish:
        publish(ew.Leaderboard.load(asked.out), asked.out)
    else:
        main(asked.out)
