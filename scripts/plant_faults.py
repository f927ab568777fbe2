"""Plant faults in a copy of the package, one at a time, and see that the plain tests catch each.

    python scripts/plant_faults.py              # all of them, a line each; exit code 1 if one lives
    python scripts/plant_faults.py sign 7       # those whose name has the word, or by number

A fault is a few characters in one place: a sign, an off-by-one position, a wrong mean, a skipped
check. The tests named with it are those that should notice; they stop at the first failure. A
fault whose place is gone is an error, so that the list keeps up with the code.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIST = Path(__file__).with_name("faults.toml")


@dataclass(frozen=True)
class Fault:
    """What is wrong, in which file of the package, what stands there, and who should notice."""

    name: str
    file: str
    right: str
    wrong: str
    tests: tuple[str, ...]

    def planted(self, text: str) -> str:
        """The file's text with the fault. Raises `ValueError` unless its place is there once."""
        times = text.count(self.right)
        if times != 1:
            raise ValueError(
                f"{self.name}: {self.file} has {self.right!r} {times} times, not once."
            )
        return text.replace(self.right, self.wrong)


def faults() -> list[Fault]:
    """Every fault of the list."""
    entries = tomllib.loads(LIST.read_text(encoding="utf-8"))["fault"]
    return [Fault(**{**entry, "tests": tuple(entry["tests"])}) for entry in entries]


def is_caught(fault: Fault) -> bool:
    """Whether a test fails with the fault planted."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "src" / "edgewise"
        shutil.copytree(
            ROOT / "src" / "edgewise", copy, ignore=shutil.ignore_patterns("__pycache__")
        )
        place = copy / fault.file
        place.write_text(fault.planted(place.read_text(encoding="utf-8")), encoding="utf-8")
        environment = {**os.environ, "PYTHONPATH": str(copy.parent), "OMP_NUM_THREADS": "1"}
        tests = [str(ROOT / test) for test in fault.tests]
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-n", "0", "-p", "no:cacheprovider"]
        done = subprocess.run(
            [*command, *tests], cwd=ROOT, env=environment, capture_output=True, text=True
        )
    if done.returncode not in (0, 1):  # neither all passed nor some failed: pytest did not run
        raise RuntimeError(
            f"{fault.name}: pytest stopped.\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
    return done.returncode == 1


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("which", nargs="*", help="words of names, or numbers from 1 on")
    which = parser.parse_args().which
    living = 0
    for number, fault in enumerate(faults(), start=1):
        if which and not any(word == str(number) or word in fault.name for word in which):
            continue
        caught = is_caught(fault)
        living += not caught
        print(
            f"{number:>3} {'caught' if caught else 'LIVES '} {fault.file}: {fault.name}", flush=True
        )
    sys.exit(1 if living else 0)


if __name__ == "__main__":
    main()
