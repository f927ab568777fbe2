"""Tiny random models of every supported family, made by Hugging Face's own classes; no download."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers

import edgewise as ew
from edgewise.model.proof import full_precision

_SHAPE: dict[str, Any] = {
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_size": 16,
    "intermediate_size": 12,
    "vocab_size": 23,
    "max_position_embeddings": 32,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": None,
}
_LLAMA3_ROPE = {
    "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 16,
}  # fmt: skip

_ROPE = {"rope_theta": 10000.0, "factor": 2.0}
_YARN = {**_ROPE, "rope_type": "yarn", "original_max_position_embeddings": 16}
_LONG_ROPE = {**_YARN, "rope_type": "longrope", "short_factor": [1.0, 1.5], "long_factor": [2, 3]}
_PART_ROPE = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
_GPT = {"n_layer": 2, "n_head": 4, "n_embd": 16, "n_positions": 32}
_FALCON = {"ffn_hidden_size": 12, "alibi": False}
_GEMMA = {"head_dim": 6, "query_pre_attn_scalar": 9}
_MOE = {
    "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 6,
    "decoder_sparse_step": 1,
}  # fmt: skip

# name: (configuration class, what differs from the shape above)
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2Config", _GPT),
    "llama": ("LlamaConfig", {}),
    "llama, one kv head": ("LlamaConfig", {"num_key_value_heads": 1, "head_dim": 6}),
    "llama, biases": ("LlamaConfig", {"attention_bias": True, "mlp_bias": True,
                                      "tie_word_embeddings": True, "num_key_value_heads": 4}),
    "llama, llama 3 rope": ("LlamaConfig", {"rope_parameters": _LLAMA3_ROPE}),
    "llama, linear rope": ("LlamaConfig", {"rope_parameters": {**_ROPE, "rope_type": "linear"}}),
    "llama, yarn": ("LlamaConfig", {"rope_parameters": _YARN}),
    "llama, dynamic rope": ("LlamaConfig", {"rope_parameters": {**_ROPE, "rope_type": "dynamic"},
                                            "head_dim": 6}),
    "llama, longrope": ("LlamaConfig", {"rope_parameters": _LONG_ROPE}),
    "mistral": ("MistralConfig", {"sliding_window": 3}),
    "qwen2": ("Qwen2Config", {}),
    "qwen2, local layers": ("Qwen2Config", {"use_sliding_window": True, "sliding_window": 3,
                                            "max_window_layers": 1}),
    "gpt_neox": ("GPTNeoXConfig", {"rope_parameters": _PART_ROPE}),
    "gpt_neox, sequential": ("GPTNeoXConfig", {"use_parallel_residual": False,
                                               "hidden_act": "relu"}),
    "gptj": ("GPTJConfig", {**_GPT, "rotary_dim": 2}),
    "gpt_neo": ("GPTNeoConfig", {"num_layers": 2, "num_heads": 4, "window_size": 3,
                                 "attention_types": [[["global", "local"], 1]]}),
    "opt": ("OPTConfig", {"ffn_dim": 12, "word_embed_proj_dim": 16, "dropout": 0.0}),
    "phi": ("PhiConfig", {"rope_parameters": _PART_ROPE}),
    "phi, q/k norm": ("PhiConfig", {"rope_parameters": _PART_ROPE, "qk_layernorm": True}),
    "stablelm": ("StableLmConfig", {"rope_parameters": _PART_ROPE, "use_qkv_bias": True}),
    "stablelm, parallel": ("StableLmConfig", {"rope_parameters": _PART_ROPE,
                                              "use_parallel_residual": True}),
    "stablelm, q/k norms": ("StableLmConfig", {"rope_parameters": _PART_ROPE,
                                               "qk_layernorm": True}),
    "falcon, 7b shape": ("FalconConfig", {**_FALCON, "multi_query": True, "parallel_attn": True}),
    "falcon, 40b shape": ("FalconConfig", {**_FALCON, "new_decoder_architecture": True,
                                    "num_kv_heads": 2}),
    "falcon, rw shape": ("FalconConfig", {**_FALCON, "alibi": True, "multi_query": False,
                                   "parallel_attn": False, "bias": True}),
}  # fmt: skip
# Norms over all of a layer's heads: what one head writes depends on the others.
MIXED: dict[str, tuple[str, dict[str, Any]]] = {
    "gemma2": ("Gemma2Config", {**_GEMMA, "attn_logit_softcapping": 5.0, "sliding_window": 3,
                                "final_logit_softcapping": 7.0}),
    "gemma3": ("Gemma3TextConfig", {**_GEMMA, "sliding_window": 3,
                                    "layer_types": ["sliding_attention", "full_attention"]}),
    "olmo2": ("Olmo2Config", {"attention_bias": False}),
    "olmoe": ("OlmoeConfig", _MOE),
}  # fmt: skip
CASES |= {
    "qwen3": ("Qwen3Config", {"head_dim": 6}),
    "smollm3": ("SmolLM3Config", {"no_rope_layers": [1, 0]}),
    "gemma": ("GemmaConfig", {**_GEMMA, "num_key_value_heads": 1}),
    "mixtral": ("MixtralConfig", {**_MOE, "num_local_experts": 4}),
    "qwen2_moe": ("Qwen2MoeConfig", {**_MOE, "shared_expert_intermediate_size": 6,
                                     "mlp_only_layers": [1]}),
    "qwen3_moe": ("Qwen3MoeConfig", {**_MOE, "head_dim": 6, "norm_topk_prob": True}),
    **MIXED,
}  # fmt: skip


def hf_model(
    case: str, *, seed: int = 0, dtype: torch.dtype = torch.float64, **changes: Any
) -> Any:
    """A model whose every parameter is random, norms and biases included."""
    name, differs = CASES[case]
    differs = {**differs, **changes}
    kind = getattr(transformers, name)
    shape = {key: size for key, size in _SHAPE.items() if hasattr(kind(), key)}
    config = kind(**{**shape, **differs})
    # Eager attention knows every feature, but adds Falcon's ALiBi twice.
    attention = "sdpa" if differs.get("alibi") else "eager"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = transformers.AutoModelForCausalLM.from_config(
            config, attn_implementation=attention
        ).to(torch.float64)
        for parameter in module.parameters():
            with torch.no_grad():
                if parameter.dim() > 1:
                    torch.nn.init.normal_(parameter, std=1.2 / parameter.shape[-1] ** 0.5)
                else:  # norms and biases
                    torch.nn.init.normal_(parameter, mean=0.5, std=0.3)
    if hasattr(config, "num_experts_per_tok"):  # the fast experts want widths of multiples of 16
        module.config._experts_implementation = "eager"
    return module.to(dtype).eval()


def gpt2(**config: Any) -> Any:
    """A random GPT-2 with random biases and norms, in float64."""
    torch.manual_seed(0)
    shape = {"n_layer": 2, "n_head": 2, "n_embd": 12, "vocab_size": 19, "n_positions": 14}
    special = {"bos_token_id": 0, "eos_token_id": 1}
    module = transformers.GPT2LMHeadModel(transformers.GPT2Config(**shape, **special, **config))
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, mean=0.1, std=0.4)
    return module.double().eval()


def llama_folder(folder: Path, **config: Any) -> Path:
    """A tiny Llama saved as a checkpoint."""
    shape = {"num_hidden_layers": 1, "hidden_size": 8, "intermediate_size": 8, "vocab_size": 31}
    shape |= {"num_attention_heads": 2, "max_position_embeddings": 16}
    torch.manual_seed(0)
    module = transformers.LlamaForCausalLM(transformers.LlamaConfig(**{**shape, **config}))
    module.save_pretrained(folder)
    return folder


@cache
def loaded(case: str) -> tuple[Any, ew.Model]:
    """A case's module in float64, and what we make of it."""
    module = hf_model(case)
    return module, ew.load_model(module)


def gradient_error(case: str) -> float:
    """How far dL / d embedding matrix is from the one by autograd through Hugging Face's module.

    Relative to its largest entry, in float64.
    """
    module = hf_model(case)
    model = ew.load_model(module)
    tokens = torch.randint(23, (2, 6), generator=torch.Generator().manual_seed(3))
    embedding, head = module.get_input_embeddings(), module.get_output_embeddings()
    head.weight = torch.nn.Parameter(head.weight.detach().clone())  # or its gradient comes along
    with torch.enable_grad():
        weight = model.weights["embed.W_E"].clone().requires_grad_()
        watched = ew.Model(model.config, {**model.weights, "embed.W_E": weight})
        watched(tokens)[:, -1].square().sum().backward()
        with full_precision(module):
            logits = module(input_ids=tokens, use_cache=False).logits
        logits[:, -1].square().sum().backward(inputs=[embedding.weight])
    assert weight.grad is not None
    theirs = embedding.weight.grad
    return float((weight.grad - theirs).abs().max() / theirs.abs().max())
