"""Try TransformerLens's own objects on tiny random models, and write what was found.

    python scripts/prove_bridges.py        (two minutes on one core; no download)

Needs TransformerLens, of any version from 2 on, which Edgewise itself never imports; what one
version cannot show is kept from the run with another. Writes scripts/bridges.json, and from
it docs/bridges.md. The models are those of scripts/lens.py.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
import transformers

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

RESULTS, PAGE = ROOT / "scripts" / "bridges.json", ROOT / "scripts" / "bridges_page.md"


def main() -> None:
    """Measure the version that is installed, then write both files."""
    import lens

    warnings.simplefilter("ignore")
    rows = []
    for kind, (_, cases) in lens.kinds().items():
        for case in cases:
            rows.append(lens.measured(kind, case))
            print(kind, case, rows[-1]["refused"] or "read")
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    versions = {"torch": torch.__version__.split("+")[0], "transformers": transformers.__version__}
    results[str(lens.MAJOR)] = {"version": lens.VERSION, **versions, "rows": rows}
    results = dict(sorted(results.items()))
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    tables = "\n\n".join(table(one) for one in reversed(results.values()))
    (ROOT / "docs" / "bridges.md").write_text(PAGE.read_text().replace("{tables}", tables))


def table(results: dict[str, Any]) -> str:
    """Model by precision, of one version."""
    lines = [
        f"With TransformerLens {results['version']}, torch {results['torch']} and transformers "
        f"{results['transformers']}:",
        "",
        "| what | random model | float64 | processed | float32 | processed | refused because |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in results["rows"]:
        errors = [*row["float64"], *row["float32"]]
        cells = ["refused" if error is None else f"{error:.0e}" for error in errors]
        reason = row["refused"].partition(". ")[0].partition(";")[0]
        lines.append(f"| {row['kind']} | {row['case']} | {' | '.join(cells)} | {reason} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
