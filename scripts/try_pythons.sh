#!/usr/bin/env bash
# Install the wheel, without extras, into a fresh environment of each Python, run there the
# README's examples and commands, and then with the extras of the tests a part of these:
#
#     scripts/try_pythons.sh python3.11 python3.12 python3.13
set -euo pipefail
cd "$(dirname "$0")/.."
repository=$PWD
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
tests="tests/methods/test_acdc.py tests/model/test_loading.py tests/cli/test_cli.py tests/model/test_gguf.py"
for python in "$@"; do
    at=$scratch/$("$python" -c 'import platform; print(platform.python_version())')
    "$python" -m venv "$at"
    "$at/bin/pip" install --quiet --constraint constraints.txt hatchling
    "$at/bin/pip" wheel --quiet --no-deps --no-build-isolation --wheel-dir "$at/wheel" .
    "$at/bin/pip" install --quiet --constraint constraints.txt "$at"/wheel/*.whl
    mkdir "$at/examples"
    (
        cd "$at/examples"
        PATH=$at/bin:$PATH "$at/bin/python" - "$repository/README.md" <<'PY'
import os, re, subprocess, sys

text = open(sys.argv[1], encoding="utf-8").read()
for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
    exec(compile(code, "README.md", "exec"), {})
os.mkdir("shell")
for commands in re.findall(r"```sh\n(edgewise .*?)```", text, re.DOTALL):
    subprocess.run(["bash", "-ec", commands], check=True, stdout=subprocess.DEVNULL, cwd="shell")
PY
    )
    echo "$("$at/bin/python" -V): the wheel without extras runs the README"
    "$at/bin/pip" install --quiet --constraint constraints.txt "$(echo "$at"/wheel/*.whl)[dev]"
    "$at/bin/python" -m pytest --quiet $tests
done
