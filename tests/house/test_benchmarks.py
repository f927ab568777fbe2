"""Benchmarks that wait for a GPU, or for an hour, still run: on a tiny problem."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize(
    "script",
    [
        "bench_gpu",
        "bench_acdc",
        "bench_acdc_families",
        "bench_acdc_waterfall",
        "bench_calibration",
        "check_kill_resume",
        "bench_large_models",
    ],
)
def test_a_tiny_run_prints_a_result(script):
    command = [sys.executable, str(BENCHMARKS / f"{script}.py"), "--tiny"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    start = done.stdout.index('{\n "benchmark"')
    result, _ = json.JSONDecoder().raw_decode(done.stdout[start:])
    assert result["environment"]["edgewise"]
