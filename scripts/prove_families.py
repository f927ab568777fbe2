"""Try every family on tiny random models, and write what was found.

    python scripts/prove_families.py        (two minutes on one core; no download)

Writes src/edgewise/model/families/proven.json, which `edgewise models` shows, and docs/families.md.
The models are those of tests/hf.py, made by Hugging Face's own classes; the checks are those of
`edgewise models check`, and the gradient of the embeddings against autograd through the module.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import edgewise as ew  # noqa: E402
from edgewise.evaluation.model_check import check_model  # noqa: E402
from edgewise.model.config import ModelConfig  # noqa: E402
from edgewise.model.families import FAMILIES  # noqa: E402
from family_cli import runs_by_command_line  # noqa: E402
from hf import CASES, gradient_error, hf_model, loaded  # noqa: E402

PAGE = ROOT / "scripts" / "families_page.md"


def main() -> None:
    """Measure, then write both files."""
    cases = [measured(case) for case in CASES]
    untried = sorted(set(FAMILIES) - {case["model_type"] for case in cases})
    if untried:
        raise SystemExit(f"no random model of {', '.join(untried)} in tests/hf.py")
    target = ROOT / "src/edgewise/model/families/proven.json"
    versions = {"torch": torch.__version__.split("+")[0], "transformers": _transformers()}
    target.write_text(json.dumps({"versions": versions, "cases": cases}, indent=1) + "\n")
    page = PAGE.read_text().replace("{table}", table(cases))
    page = page.replace("{versions}", " and ".join(f"{k} {v}" for k, v in versions.items()))
    (ROOT / "docs/families.md").write_text(page)


def measured(case: str) -> dict[str, Any]:
    """All errors of one random model, in float64 and in bfloat16."""
    module, model = loaded(case)
    found = check_model(model)
    if not found.holds:
        raise SystemExit(f"{case}: {found.errors}")
    half = ew.load_model(hf_model(case, dtype=torch.bfloat16))
    print(case, f"{max(found.errors.values()):.0e}")
    with TemporaryDirectory() as folder:
        runs = runs_by_command_line(module, Path(folder))
    return {
        "case": case,
        "model_type": module.config.model_type,
        "heads": [model.config.n_heads, model.config.n_kv_heads],
        "positions": positions(model.config),
        "features": features(model.config),
        "float64": found.errors | {"embedding gradient": gradient_error(case)},
        "bfloat16": dict(half.proof["relative_errors"]),
        "edges": model.graph.n_edges,
        "kept by the command line": {method: run.circuit.n_edges for method, run in runs.items()},
    }


def features(config: ModelConfig) -> list[str]:
    """What this model has that a GPT-2 has not."""
    has = {
        "windows": any(config.windows),
        "parallel blocks": config.parallel,
        "gated MLPs": config.gated,
        "experts": any(config.experts),
        "RMSNorm": config.norm.startswith("rms"),
        "q/k norm": config.qk_norm != "none",
        "output norms": config.post_norm,
        "soft caps": bool(config.attention_cap or config.logit_cap),
        "scaled embeddings": config.embedding_scale != 1,
    }
    return [name for name, there in has.items() if there]


def positions(config: ModelConfig) -> str:
    """What tells a model where a token stands."""
    if any(config.rotary):
        turned = {2 * len(r.frequencies) for r in config.rotary if r is not None}
        part = "" if turned == {config.d_head} else "part "
        return f"{part}rotary" + ("" if all(config.rotary) else " in some layers")
    return "ALiBi" if config.alibi_slopes else "learned"


def table(cases: list[dict[str, Any]]) -> str:
    """Family by check."""
    columns = (
        "family, random model", "logits", "gradient", "circuits", "spans", "padding", "bfloat16",
        "heads, kv", "positions", "ACDC, EAP-IG, SP", "also",
    )  # fmt: skip
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for case in cases:
        exact = case["float64"]
        identities = {k: v for k, v in exact.items() if "circuit" in k or k.startswith("gradient")}
        circuits = max(v for k, v in identities.items() if "spans" not in k)
        spans = max(v for k, v in identities.items() if "spans" in k)
        numbers = [exact["proof: logits"], exact["embedding gradient"], circuits, spans]
        cells = [f"{number:.0e}" for number in (*numbers, exact["padding"])]
        cells.append(f"{case['bfloat16']['logits']:.0e}")
        cells.append(", ".join(map(str, case["heads"])))
        cells.append(case["positions"])
        kept = ", ".join(str(n) for n in case["kept by the command line"].values())
        cells.append(f"{kept} of {case['edges']}")
        name = f"`{case['model_type']}`"
        detail = case["case"].partition(", ")[2]
        name = f"{name}, {detail}" if detail else name
        lines.append(f"| {name} | {' | '.join(cells)} | {', '.join(case['features'])} |")
    return "\n".join(lines)


def _transformers() -> str:
    import transformers

    return transformers.__version__


if __name__ == "__main__":
    main()
