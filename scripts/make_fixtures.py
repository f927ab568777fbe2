"""Copy the reference answers (mlp3l.json, mlp3l.safetensors) into tests/fixtures.

    python scripts/make_fixtures.py FOLDER

FOLDER holds the two files as the reference implementations wrote them. The weights are copied byte
for byte, the JSON without white space; the tests of the oracle compare with them.
"""

import argparse
import json
import shutil
from pathlib import Path

FIXTURES = Path(__file__).parent.parent / "tests" / "fixtures"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="holds mlp3l.json and mlp3l.safetensors")
    folder = parser.parse_args().folder

    FIXTURES.mkdir(parents=True, exist_ok=True)
    data = json.loads((folder / "mlp3l.json").read_text())
    (FIXTURES / "mlp3l.json").write_text(json.dumps(data, separators=(",", ":")) + "\n")
    # copyfile, not copy: the permissions of the source (read-only, say) stay behind
    shutil.copyfile(folder / "mlp3l.safetensors", FIXTURES / "mlp3l.safetensors")
    for name in ("mlp3l.json", "mlp3l.safetensors"):
        print(f"tests/fixtures/{name}: {(FIXTURES / name).stat().st_size} bytes")


if __name__ == "__main__":
    main()
