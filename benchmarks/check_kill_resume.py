"""Does a sweep that is killed again and again end as one that nothing stops?

    python benchmarks/check_kill_resume.py [--kills 50] [--tiny]

Sweeps of 44 points (ACDC, attribution, trained masks, random scores; two tasks, two references) are
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

import torch

import edgewise as ew
from edgewise.record.environment import environment
from edgewise.sweeps import VOLATILE
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
    "reference": ["zero", "corrupted"],
}


def sweep(out: Path, workers: int = 1) -> None:
    torch.set_num_threads(1)
    ew.sweep_grid(METHODS, over=OVER, out=out, workers=workers)


def lasting(folder: Path) -> list[dict]:
    """The table without what differs between two times that it is computed."""
    rows = [json.loads(line) for line in (folder / "points.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in VOLATILE} for row in rows]


def killed_after(out: Path, seconds: float, workers: int) -> bool:
    """Sweep in a process of its own, and kill it; False if it was faster."""
    child = multiprocessing.get_context("fork").Process(target=sweep, args=(out, workers))
    child.start()
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
    keys = [json.loads(line)["key"] for line in (out / "journal.jsonl").read_text().splitlines()]
    if len(keys) != len(set(keys)):
        faults.append("points are in the journal twice")
    if parquet.read_table(out / "points.parquet").num_rows != len(expected):
        faults.append("the Parquet file has another number of rows")
    for row in rows:
        circuit = ew.Circuit.load(out / row["circuit_file"])
        if circuit.id != row["circuit_id"]:
            faults.append(f"{row['circuit_file']} is another circuit")
    left = {p.name for p in out.iterdir()} - {
        *("sweep.json", "journal.jsonl", "points.jsonl", "points.parquet", "circuits")
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
    torch.set_num_threads(1)
    chance, done, sweeps, in_two, faults, most = random.Random(0), 0, 0, 0, [], 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sweep(folder / "warm-up")
        start = time.perf_counter()
        sweep(folder / "straight")
        seconds = time.perf_counter() - start
        expected = lasting(folder / "straight")
        while done < kills:
            out, sweeps, before, here = folder / f"sweep-{sweeps}", sweeps + 1, b"", 0
            while True:
                two = done % 5 == 4
                # Two processes load torch first, which would be all that is ever killed.
                pause = chance.uniform(0, seconds / 4) + (chance.uniform(0, 8) if two else 0)
                was_at_work = done < kills and killed_after(out, pause, 2 if two else 1)
                if not whole_lines(out / "journal.jsonl").startswith(before):
                    faults.append(f"sweep {sweeps}: lines have changed or gone")
                before = whole_lines(out / "journal.jsonl")
                if not was_at_work:
                    break
                done, here, in_two = done + 1, here + 1, in_two + two
            sweep(out)
            if not whole_lines(out / "journal.jsonl").startswith(before):
                faults.append(f"sweep {sweeps}: lines have changed or gone")
            most = max(most, here)
            faults += [f"sweep {sweeps}: {fault}" for fault in faults_of(out, expected)]
    write(
        "kill_resume",
        environment(ew.load_model("or-gate")),
        {
            "kills": done,
            "of_which_with_two_processes": in_two,
            "sweeps": sweeps,
            "most_kills_of_one_sweep": most,
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
