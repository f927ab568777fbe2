"""Models in GGUF files, the format of llama.cpp: transformers dequantises them.

transformers leaves out what it does not know of a file, without a word. What is left out and what a
model's outputs depend on is put right here, or refused.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from edgewise.errors import ModelUnavailable, UnsupportedModel

_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
# Keys below a file's architecture that transformers does not read of every family, and where its
# configuration has what it computes with instead; nothing stands for "not at all".
_COMPUTED = {
    "attention.clamp_kqv": "clip_qkv",
    "attention.sliding_window": "sliding_window",
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
    "logit_scale": "logit_scale",
    "rope.scaling.factor": "",
    "rope.scaling.type": "",
}
# Ways to cut words, `tokenizer.ggml.pre`, of which llama.cpp knows more than transformers: those
# that put BOS first where the file does not say, and those that take digits one by one.
_CUTS_WITH_BOS = ("llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral")
_CUTS_WITH_DIGITS = ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone")


def gguf_file(source: str) -> GGUFFile | None:
    """The GGUF file that a path names: itself, or the only one of a folder without other weights.

    Raises `ModelUnavailable` for another file, for a folder with several, and without the packages
    that read it; `UnsupportedModel` for a broken one.
    """
    path = Path(source)
    if path.is_dir():
        files = sorted(path.glob("*.gguf"))
        if not files or any(next(path.glob(kind), None) for kind in _WEIGHTS):
            return None
        if len(files) > 1:
            names = ", ".join(file.name for file in files[:6]) + ", …" * (len(files) > 6)
            raise ModelUnavailable(f"{source!r} holds several GGUF files; name one: {names}.")
        path = files[0]
    elif not path.is_file():
        if path.suffix.lower() == ".gguf":
            raise ModelUnavailable(f"there is no file {source!r}.")
        return None
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise ModelUnavailable(
                f"{str(path)!r} is not a GGUF file: it does not begin with GGUF. A model is a GGUF "
                "file, or a folder or hub name of transformers."
            )
    if not (find_spec("gguf") and find_spec("accelerate")):
        raise ModelUnavailable(
            f"to read {str(path)!r}, gguf and accelerate must be there: "
            "pip install 'edgewise[gguf]'."
        )
    return GGUFFile(path)


class GGUFFile:
    """A GGUF file: what it says of itself by key, and its tensors by name.

    Raises `UnsupportedModel` if it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        from gguf import GGUFReader

        try:
            reader = GGUFReader(path)
        except Exception as reason:  # it checks nothing before it reads
            raise UnsupportedModel(
                f"{str(path)!r} is broken, or of a version of GGUF that the package gguf does not "
                f"read ({type(reason).__name__})."
            ) from reason
        self.path = path
        self._fields = reader.fields
        self._tensors = {tensor.name: tensor for tensor in reader.tensors}
        if self._of_family("block_count", 0) > len(self._tensors):
            raise UnsupportedModel(f"{str(path)!r} has fewer tensors than layers: it is broken.")

    def _get(self, key: str, default: Any = None) -> Any:
        field = self._fields.get(key)
        return default if field is None else field.contents()

    def _of_family(self, key: str, default: Any = None) -> Any:
        return self._get(f"{self._get('general.architecture')}.{key}", default)

    def correct(self, config: Any) -> None:
        """Put into transformers' configuration of this file what it leaves at another model's."""
        if self._get("general.architecture") in ("gemma2", "gemma3"):
            # llama.cpp knows the scale of scores by the size: the 27B models have their own.
            is_27b = config.num_hidden_layers in (46, 62)
            width = config.hidden_size // config.num_attention_heads
            config.query_pre_attn_scalar = width if is_27b else config.head_dim

    def settle(self, module: Any) -> None:
        """Make a module that transformers read from this file compute what the file says.

        Raises `UnsupportedModel` where it does not.
        """
        vars(module.config).pop("quantization_config", None)  # nothing is packed any more
        module.hf_quantizer = None
        factors = self._tensors.pop("rope_freqs.weight", None)
        if factors is not None:  # Llama 3.1 and later: how much slower each pair of numbers turns
            module.model.rotary_emb.inv_freq /= torch.tensor(factors.data)
        faults = []
        for key, name in _COMPUTED.items():
            stated = self._of_family(key)
            used = getattr(module.config, name, None)
            if stated in (None, "none", 0, used) or (key.endswith("factor") and stated == 1):
                continue
            computes = "without it" if used is None else f"with {used}"
            faults.append(f"says {key} = {stated}, and transformers computes {computes}")
        held = sum(int(tensor.n_elements) for tensor in self._tensors.values())
        read = sum(parameter.numel() for parameter in module.parameters())
        if held != read:
            faults.append(f"holds {held:,} weights, and transformers reads {read:,}")
        if faults:
            raise UnsupportedModel(
                f"{str(self.path)!r} {'; '.join(faults)}. Load the same model as a checkpoint of "
                "transformers."
            )

    def tokenizer(self) -> Any:
        """The tokenizer in it, cutting words and putting BOS as llama.cpp does; None without one.

        Raises what transformers raises for a kind of tokenizer that it does not know.
        """
        from tokenizers import decoders, pre_tokenizers
        from transformers import PreTrainedTokenizerFast

        kind = self._get("tokenizer.ggml.model")
        cut = self._get("tokenizer.ggml.pre")
        if kind is None:
            return None
        tokenizer = PreTrainedTokenizerFast.from_pretrained(
            self.path.parent, gguf_file=self.path.name, local_files_only=True
        )
        by_default = kind == "llama" or cut in _CUTS_WITH_BOS
        tokenizer.add_bos_token = self._get("tokenizer.ggml.add_bos_token", by_default)
        backend = tokenizer.backend_tokenizer
        if cut in _CUTS_WITH_DIGITS:
            digits = pre_tokenizers.Digits(individual_digits=True)
            letters = pre_tokenizers.ByteLevel(add_prefix_space=False)
            backend.pre_tokenizer = pre_tokenizers.Sequence([digits, letters])
        prefix = self._get("tokenizer.ggml.add_space_prefix", True)
        if isinstance(backend.pre_tokenizer, pre_tokenizers.Metaspace) and not prefix:
            backend.pre_tokenizer = pre_tokenizers.Metaspace(
                "▁", prepend_scheme="never", split=False
            )
            steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
            backend.decoder = decoders.Sequence(steps)
        return tokenizer
