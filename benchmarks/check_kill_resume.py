"""Does a sweep that is killed again and again end as one that nothing stops?

    python benchmarks/check_kill_resume.py [--kills 50] [--tiny]

Sweeps of 44 points (ACDC, attribution, trained masks, random scores; two tasks, two ablations) are
killed with SIGKILL at random moments, every fifth time while two processes compute, and started
again until they end; the next begins in a new folder, until there have been enough kills.
Checked after every kill: what the journal held before it still holds, byte for byte. After every
sweep: the table equals the uninterrupted one in every column that does not measure time or memory,
no point is in the journal twice, every file is whole, nothing is left over. About five minutes on
one core, and half a minute with --tiny, which writes no result.
"""

import argparse
import json
import multiprocessing
import random
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import edgewise as ew
from edgewise.sweep_folder import VOLATILE
from edgewise.work.store import environment
from results import FOLDER, write

METHODS = {
    "acdc": {"threshold": [0.003, 0.03, 0.3]},
    "acdc-ordered": {"threshold": [0.03, 0.3]},
    "eap-ig": {"edges": [3, 9, 15]},
    "sp": {"regularisation": 0.1, "steps": 15},
    "random": {"edges": 9, "seed": [0, 1]},
}
OVER = {
    "task": ["tracr-xproportion", "tracr-reverse"],
    "ablation": ["zero", "corrupted"],
}


def sweep(out: Path, workers: int = 1, at_work: Any = None, over: Any = None) -> None:
    """Sweep, and say when the problems are loaded."""

    def on_progress(step: Any) -> None:
        if at_work is not None and step.message != "loading":
            at_work.set()

    torch.set_num_threads(1)
    ew.sweep_grid(METHODS, over=over or OVER, out=out, workers=workers, on_progress=on_progress)


def lasting(folder: Path) -> list[dict]:
    """The table without what differs between two times that it is computed."""
    rows = [json.loads(line) for line in (folder / "points.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in VOLATILE} for row in rows]


def killed_after(out: Path, seconds: float, workers: int, over: Any) -> bool:
    """Sweep in a process of its own, and kill it that long after it began; False if it ended."""
    fork = multiprocessing.get_context("fork")
    at_work = fork.Event()
    child = fork.Process(target=sweep, args=(out, workers, at_work, over))
    child.start()
    while child.exitcode is None and not at_work.wait(0.05):
        pass
    child.join(seconds)
    was_at_work = child.exitcode is None
    child.kill()
    child.join()
    if child.exitcode not in (0, -signal.SIGKILL):
        raise SystemExit(f"a sweep ended with exit code {child.exitcode}")
    return was_at_work


def whole_lines(journal: Path) -> bytes:
    text = journal.read_bytes() if journal.exists() else b""
    return text[: text.rfind(b"\n") + 1]


def faults_of(out: Path, expected: list[dict]) -> list[str]:
    """What is wrong with a finished sweep."""
    from pyarrow import parquet

    faults = []
    rows = lasting(out)
    if rows != expected:
        named = {r["key"]: r for r in expected}
        wrong = [
            f"{row['key']}.{name}: {value!r}, not {named.get(row['key'], {}).get(name)!r}"
            for row in rows
            for name, value in row.items()
            if value != named.get(row["key"], {}).get(name)
        ]
        faults.append(f"another table: {wrong[:3] or 'points are missing'}")
    keys = [
        json.loads(line)["key"] for line in (out / "journal.jsonl").read_text().splitlines()[1:]
    ]
    if len(keys) != len(set(keys)):
        faults.append("points are in the journal twice")
    if parquet.read_table(out / "points.parquet").num_rows != len(expected):
        faults.append("the Parquet file has another number of rows")
    for row in rows:
        circuit = ew.Circuit.load(out / row["circuit_file"])
        if circuit.id != row["circuit_id"]:
            faults.append(f"{row['circuit_file']} is another circuit")
    left = {p.name for p in out.iterdir()} - {
        *("journal.jsonl", "points.jsonl", "points.parquet", "circuits")
    }
    left |= {p.name for p in (out / "circuits").iterdir()} - {
        f"{r['circuit_id']}.json" for r in rows
    }
    return [*faults, *(f"left over: {name}" for name in sorted(left))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--tiny", action="store_true")
    arguments = parser.parse_args()
    kills = 3 if arguments.tiny else arguments.kills
    over = {"task": "tracr-xproportion"} if arguments.tiny else OVER
    torch.set_num_threads(1)
    chance, in_two, faults, kept = random.Random(0), 0, [], list[list[int]]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sweep(folder / "warm-up", over=over)
        start = time.perf_counter()
        sweep(folder / "straight", over=over)
        seconds = time.perf_counter() - start
        expected = lasting(folder / "straight")
        while (done := sum(map(len, kept))) < kills:
            out, before = folder / f"sweep-{len(kept)}", b""
            kept.append([])
            while (done := sum(map(len, kept))) < kills:
                two = done % 5 == 4
                # Two processes load torch first, which would be all that is ever killed.
                pause = chance.uniform(0, seconds / 3) + (chance.uniform(2, 10) if two else 0)
                if not killed_after(out, pause, 2 if two else 1, over):
                    break
                now, in_two = whole_lines(out / "journal.jsonl"), in_two + two
                if not now.startswith(before):
                    faults.append(f"sweep {len(kept)}: lines have changed or gone")
                before = now
                kept[-1].append(before.count(b"\n"))
            sweep(out, over=over)
            if not whole_lines(out / "journal.jsonl").startswith(before):
                faults.append(f"sweep {len(kept)}: lines have changed or gone")
            faults += [f"sweep {len(kept)}: {fault}" for fault in faults_of(out, expected)]
    write(
        "kill_resume",
        environment(ew.load_model("or-gate")),
        {
            "kills": sum(map(len, kept)),
            "of_which_with_two_processes": in_two,
            "points_kept_after_each_kill_of_each_sweep": [str(counts) for counts in kept],
            "points_of_a_sweep": len(expected),
            "columns_compared": len(expected[0]),
            "seconds_of_a_sweep_that_nothing_stops": seconds,
            "faults": faults,
        },
        None if arguments.tiny else FOLDER,
    )
    if faults:
        raise SystemExit("\n".join(faults))


if __name__ == "__main__":
    main()
