"""Write a random model of transformers as a GGUF file, in the way of llama.cpp's converter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
from tokenizers.pre_tokenizers import ByteLevel

SPECIAL = ("<begin>", "<end>")
BYTES = [*SPECIAL, *sorted(ByteLevel.alphabet()), "Ġt", "he", "Ġthe", "ĠĠ"]
PIECES = ["<unk>", *SPECIAL, *(f"<0x{i:02X}>" for i in range(256)), "▁", "a", "b", "▁a", "ab"]


def write_gguf(
    path: Path,
    module: Any,
    *,
    architecture: str = "llama",
    kind: str = "F32",
    tokenizer: str | None = "gpt2",
    extra: dict[str, np.ndarray] | None = None,
    **keys: Any,
) -> Path:
    """`kind` is the type of matrices; `extra` more tensors; `keys` go into the file as they are."""
    c = module.config
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(c.max_position_embeddings)
    writer.add_block_count(c.num_hidden_layers)
    writer.add_embedding_length(c.hidden_size)
    writer.add_feed_forward_length(c.intermediate_size)
    writer.add_head_count(c.num_attention_heads)
    writer.add_head_count_kv(c.num_key_value_heads)
    writer.add_layer_norm_rms_eps(c.rms_norm_eps)
    writer.add_rope_dimension_count(c.head_dim)
    writer.add_key_length(c.head_dim)
    writer.add_vocab_size(c.vocab_size)
    if tokenizer is not None:
        _write_tokenizer(writer, tokenizer)
    for key, value in keys.items():
        name = key.replace("__", ".").replace("FAMILY", architecture)
        add = {bool: writer.add_bool, str: writer.add_string, int: writer.add_uint32}
        add.get(type(value), writer.add_float32)(name, value)
    tensors = {**_converted(module, architecture), **(extra or {})}
    for name, tensor in tensors.items():
        packs = tensor.ndim == 2 and kind != "F32"
        type_ = gguf.GGMLQuantizationType[kind if packs else "F32"]
        writer.add_tensor(name, gguf.quantize(tensor, type_), raw_dtype=type_)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _converted(module: Any, architecture: str) -> dict[str, np.ndarray]:
    names = gguf.get_tensor_name_map(
        {v: k for k, v in gguf.MODEL_ARCH_NAMES.items()}[architecture],
        module.config.num_hidden_layers,
    )
    found = {}
    for name, tensor in module.state_dict().items():
        if name == "lm_head.weight" and module.config.tie_word_embeddings:
            continue
        base, suffix = name.rsplit(".", 1)
        value = tensor.detach().float().numpy()
        if architecture == "llama" and base.endswith(("q_proj", "k_proj")):
            heads = module.config.num_attention_heads
            heads = heads if base.endswith("q_proj") else module.config.num_key_value_heads
            value = value.reshape(heads, 2, -1, value.shape[1]).swapaxes(1, 2).reshape(value.shape)
        if architecture.startswith("gemma") and "norm" in base:
            value = value + 1
        found[f"{names.get_name(base)}.{suffix}"] = np.ascontiguousarray(value)
    return found


def _write_tokenizer(writer: gguf.GGUFWriter, kind: str) -> None:
    tokens = BYTES if kind == "gpt2" else PIECES
    writer.add_tokenizer_model(kind)
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in SPECIAL else 1 for token in tokens])
    if kind == "gpt2":
        writer.add_token_merges(["Ġ t", "h e", "Ġt he", "Ġ Ġ"])
    else:
        writer.add_token_scores([-float(i) for i in range(len(tokens))])
        writer.add_unk_token_id(0)
    writer.add_bos_token_id(tokens.index(SPECIAL[0]))
    writer.add_eos_token_id(tokens.index(SPECIAL[1]))
