"""The problems of the golden answers, as data in words of their own.

A problem is a model ("family": a tiny random one of a Hugging Face configuration; "own": one of our
configuration; "bundled": one that the package has), prompts, a metric, an ablation, a granularity,
and what is found and judged on it. `quick` ones are replayed by the plain test run.
"""

from __future__ import annotations

from typing import Any

_ROPE = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
_LINEAR = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}
_GPT = {"n_layer": 2, "n_head": 4, "n_embd": 16, "n_positions": 32}
_FALCON = {"ffn_hidden_size": 12, "alibi": False}
_GEMMA = {"head_dim": 6, "query_pre_attn_scalar": 9}
_MOE = {
    "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 6, "decoder_sparse_step": 1
}  # fmt: skip
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2Config", _GPT),
    "llama": ("LlamaConfig", {}),
    "llama, one kv head": ("LlamaConfig", {"num_key_value_heads": 1, "head_dim": 6}),
    "llama, linear rope": ("LlamaConfig", {"rope_parameters": _LINEAR, "attention_bias": True}),
    "mistral": ("MistralConfig", {"sliding_window": 3}),
    "qwen2": ("Qwen2Config", {}),
    "qwen3": ("Qwen3Config", {"head_dim": 6}),
    "neox": ("GPTNeoXConfig", {"rope_parameters": _ROPE}),
    "neox, sequential": ("GPTNeoXConfig", {"use_parallel_residual": False, "hidden_act": "relu"}),
    "gptj": ("GPTJConfig", {**_GPT, "rotary_dim": 2}),
    "gpt-neo": ("GPTNeoConfig", {"num_layers": 2, "num_heads": 4, "window_size": 3,
                                 "attention_types": [[["global", "local"], 1]]}),
    "opt": ("OPTConfig", {"ffn_dim": 12, "word_embed_proj_dim": 16, "dropout": 0.0}),
    "phi": ("PhiConfig", {"rope_parameters": _ROPE, "qk_layernorm": True}),
    "stablelm": ("StableLmConfig", {"rope_parameters": _ROPE, "qk_layernorm": True}),
    "falcon, 7b": ("FalconConfig", {**_FALCON, "multi_query": True, "parallel_attn": True}),
    "falcon, 40b": ("FalconConfig", {**_FALCON, "new_decoder_architecture": True,
                                     "num_kv_heads": 2}),
    "falcon, alibi": ("FalconConfig", {**_FALCON, "alibi": True, "multi_query": False,
                                       "parallel_attn": False, "bias": True}),
    "gemma2": ("Gemma2Config", {**_GEMMA, "attn_logit_softcapping": 5.0, "sliding_window": 3,
                                "final_logit_softcapping": 7.0}),
    "gemma3": ("Gemma3TextConfig", {**_GEMMA, "sliding_window": 3,
                                    "layer_types": ["sliding_attention", "full_attention"]}),
    "olmo2": ("Olmo2Config", {"attention_bias": False}),
    "mixtral": ("MixtralConfig", {**_MOE, "num_local_experts": 4}),
}  # fmt: skip

Find = tuple[str, dict[str, Any]]


def _each(names: str, **settings: Any) -> list[Find]:
    return [(name, settings) for name in names.split()]


SCORED = _each("eap-ig exact information-flow magnitude", share=0.2)
FIRST_ORDER = _each("eap clean-corrupted atp-star relp", share=0.2)  # not with kl or l2
HISP: list[Find] = [
    ("hisp", {"units": 6}),
    ("hisp", {"unit_share": 0.4, "reading": "code", "normalise": False}),
]
TRAINED: list[Find] = [
    ("sp", {"steps": 8, "regularisation": 0.5, "learning_rate": 0.3, "seed": 3}),
    ("sp-edges", {"steps": 8, "regularisation": 0.5, "learning_rate": 0.3}),
    ("sp-edges", {"steps": 5, "regularisation": 0.1, "learning_rate": 0.3,
                  "binarise": "stochastic"}),
    ("edge-pruning", {"steps": 8, "sparsity": 0.6, "learning_rate": 0.3}),
    ("ugs", {"steps": 4, "regularisation": 0.02, "learning_rate": 0.5, "draws": 2, "seed": 1}),
]  # fmt: skip
RANDOM: list[Find] = [("random", {"seed": 5, "edges": 20})]


def _variants(threshold: float) -> list[Find]:
    """What ACDC's loop is varied into."""
    return [
        ("acdc-ordered", {"threshold": threshold}),
        ("acdc-ordered", {"threshold": threshold, "attribution": "exact"}),
        ("acdc-screened", {"threshold": threshold, "screen": 0.5}),
        ("acdc-bisect", {"threshold": threshold}),
        ("acdc-test", {"threshold": threshold, "first": 2, "error_rate": 0.2}),
    ]


def _selections() -> list[Find]:
    """Every way to choose edges from scores."""
    ways: list[dict[str, Any]] = [
        {"edges": 17}, {"share": 0.3, "by": "signed"}, {"above": 0.05}, {"nodes": 4},
        {"edges": 25, "select": "greedy"}, {"edges": 25, "select": "greedy", "by": "signed"},
    ]  # fmt: skip
    return [("eap-ig", way) for way in ways]


EAP_IG: list[Find] = [
    ("eap-ig", {"share": 0.2, "steps": 3, "over": "activations"}),
    ("eap-ig", {"share": 0.2, "steps": 4, "points": "midpoints"}),
    ("eap-ig", {"share": 0.2, "steps": 2, "over": "activations", "points": "midpoints"}),
]
PROBLEMS: dict[str, dict[str, Any]] = {}


def _add(
    name: str, model: dict[str, Any], metric: str, ablation: Any, *thresholds: float, **rest: Any
) -> None:
    """A problem on which ACDC runs at each threshold and its tenth, and what else `find` asks for.

    The last threshold's circuit is the one that is judged.
    """
    every = [threshold / part for part in (1, 10) for threshold in thresholds]
    acdc = [("acdc", {"threshold": threshold}) for threshold in every]
    PROBLEMS[name] = {
        **{"model": model, "metric": metric, "ablation": ablation, "prompts": {}, "grain": {}},
        **rest,
        "find": [*acdc, *rest.get("find", [])],
    }


def _family(name: str, seed: int = 0) -> dict[str, Any]:
    return {"family": name, "seed": seed}


def _own(seed: int = 0, **config: Any) -> dict[str, Any]:
    return {"own": config, "seed": seed}


_PADDED = {"lengths": [6, 3, 5, 4]}
_SPANS = {"spans": {"first": [0], "subject": [1, 2], "end": [-1]}}
_ALL_WAYS: list[Find] = [
    ("acdc", {"threshold": 0.02, "head_order": "ascending"}),
    ("acdc", {"threshold": 0.02, "absolute": True}),
    ("acdc", {"threshold": 0.02, "prune": True}),
    ("acdc", {"threshold": 0.02, "engine": "plain"}),
    ("acdc", {"threshold": 0.02, "verify": True}),
    ("acdc", {"threshold": 0.02, "precision": "reduced"}),
]

# The GPT-2-like family: every ablation, every granularity.
# fmt: off
_add("gpt2-kl", _family("gpt2"), "kl", "corrupted", 0.01, 0.05, 0.3, quick=True, judge="all",
     find=[*_ALL_WAYS, *SCORED, *_variants(0.02), *RANDOM])
_add("gpt2-logit-diff", _family("gpt2"), "logit-diff", "corrupted", 0.05, 0.2, quick=True,
     judge="all", find=[*SCORED, *FIRST_ORDER, *HISP, *RANDOM])
_add("gpt2-selections", _family("gpt2", 2), "logit-diff", "corrupted", 0.1, find=[*_selections(),
     *EAP_IG])
_add("gpt2-trained", _family("gpt2"), "kl", "corrupted", 0.05, quick=True, find=TRAINED)
_add("gpt2-zero", _family("gpt2"), "logit-diff", "zero", 0.05, judge="faithful", find=[*SCORED,
     *FIRST_ORDER, *HISP, *TRAINED])
_add("gpt2-mean", _family("gpt2"), "logit-diff", "mean", 0.05, quick=True, prompts=_PADDED,
     judge="faithful", find=[*FIRST_ORDER, *HISP, *_each("eap-ig exact", share=0.2)])
_add("gpt2-mean-positional", _family("gpt2"), "prob-diff", "mean-positional", 0.01, quick=True,
     prompts={**_PADDED, "answers": 2}, judge="faithful", find=[*FIRST_ORDER, *TRAINED])
_add("gpt2-mean-of-others", _family("gpt2"), "kl", {"mean over": 5}, 0.05, prompts={**_PADDED,
     "padding": "left"}, find=SCORED)
_add("gpt2-moved-positions", _family("gpt2"), "kl", {"moved": [3, 1, 5, 0, 2, 4]}, 0.05,
     grain={"split_embed": True}, find=SCORED)
_add("gpt2-joined", _family("gpt2"), "logit-diff", "corrupted", 0.05, quick=True,
     grain={"split_qkv": False}, judge="faithful", find=[*SCORED,
     *_each("eap clean-corrupted relp", share=0.2), *HISP, *TRAINED, *_variants(0.03)])
_add("gpt2-layers", _family("gpt2"), "nll", "mean", 0.05, grain={"split_heads": False},
     find=[*SCORED, *FIRST_ORDER, *HISP, *TRAINED])
_add("gpt2-split-embed", _family("gpt2"), "match-nll", "zero", 0.05, grain={"split_embed": True},
     find=[*SCORED, *FIRST_ORDER])
_add("gpt2-switches", _family("gpt2"), "kl", "corrupted", 0.02, 0.2, grain={"switches": True},
     quick=True, find=[*_ALL_WAYS[:2], *_each("eap-ig exact", share=0.2), *TRAINED])
_add("gpt2-switches-zero", _family("gpt2", 1), "logit-diff", "zero", 0.05, judge="faithful",
     grain={"switches": True, "split_embed": True}, find=[*HISP, *_each("eap exact", share=0.2)])
_add("gpt2-switches-mean", _family("gpt2", 1), "kl", "mean-positional", 0.05, prompts=_PADDED,
     grain={"switches": True}, find=_each("exact", share=0.2))
_add("gpt2-spans", _family("gpt2"), "logit-diff", "corrupted", 0.05, quick=True, prompts=_SPANS,
     grain={"spans": ["subject", "end"]}, judge="roles", find=_each("eap eap-ig exact",
     share=0.2))
_add("gpt2-spans-mean", _family("gpt2"), "kl", "mean", 0.05, prompts=_SPANS, grain={"spans":
     ["first", "end"], "split_embed": True, "split_qkv": False}, find=[TRAINED[1]])
_add("gpt2-batches", _family("gpt2"), "kl", "mean-positional", 0.05, prompts={"lengths": [6, 3, 5,
     4, 6]}, batch_size=2, find=[*SCORED, *TRAINED[:2]])
_add("gpt2-target", _family("gpt2"), "kl", "corrupted", 0.05, target=_family("gpt2", 9),
     find=_each("eap exact", share=0.2))
_add("gpt2-everywhere", _family("gpt2"), "l2", "corrupted", 0.01, prompts={"asked": "all"},
     quick=True, find=[*SCORED, *_variants(0.02)])
_add("gpt2-two-positions", _family("gpt2"), "logit-margin", "corrupted", 0.05, prompts={**_PADDED,
     "asked": [-2, -1], "answers": 2}, find=[*SCORED, *FIRST_ORDER, *HISP])
_add("gpt2-accuracy", _family("gpt2"), "accuracy", "corrupted", 0.1, prompts={"answers": 8},
     find=_each("exact", above=0.1))
_add("gpt2-fraction", _family("gpt2"), "fraction-correct", "zero", 0.1, prompts={"answers": 2})
_add("gpt2-many-prompts", _family("gpt2", 4), "logit-diff", "corrupted", 0.05, judge="sure",
     prompts={"lengths": [4] * 12}, find=[("acdc-test", {"threshold": 0.02, "first": 4, "control":
     "circuit", "seed": 2}), ("acdc-test", {"threshold": 0.02, "first": 4, "test": "betting",
     "bound": 9.0, "undecided": "keep"})])

# Our own configuration, for parts that no family above has.
_add("attention-only", _own(attention_only=True, n_layers=3), "kl", "corrupted", 0.02, quick=True,
     find=[*SCORED, ("sp", {"steps": 6, "regularisation": 0.3, "learning_rate": 0.3,
     "dead_mlp_masks": True})])
_add("no-norm", _own(norm="none", activation="relu"), "logit-diff", "mean", 0.05,
     find=FIRST_ORDER)
_add("shortformer", _own(positions="shortformer", attention_only=True), "kl", "corrupted", 0.05)
_add("bidirectional", _own(causal=False, positions="none", d_vocab_out=3), "nll", "zero", 0.05,
     quick=True, find=_each("eap atp-star exact", share=0.2))
_add("parallel", _own(parallel=True), "logit-diff", "corrupted", 0.05, quick=True, find=[*SCORED,
     *FIRST_ORDER, *HISP])

# Families: rotary positions, grouped heads, parallel blocks, shared norms, windows, experts.
_add("llama", _family("llama"), "logit-diff", "corrupted", 0.05, 0.2, quick=True,
     judge="faithful", find=[*_ALL_WAYS[:1], *SCORED, *FIRST_ORDER, *HISP, *TRAINED,
     *_variants(0.03)])
_add("llama-own-ports", _family("llama"), "kl", "mean", 0.05, grain={"ungroup_heads": True},
     find=SCORED)
_add("llama-switches", _family("llama"), "kl", "zero", 0.05, grain={"ungroup_heads": True,
     "switches": True}, find=_each("exact", share=0.2))
_add("llama-one-kv-head", _family("llama, one kv head"), "logit-diff", "zero", 0.05, quick=True,
     find=[*FIRST_ORDER, *TRAINED])
_add("llama-linear-rope", _family("llama, linear rope"), "kl", "mean-positional", 0.05)
_add("llama-spans", _family("llama"), "kl", "corrupted", 0.05, prompts=_SPANS, grain={"spans":
     ["subject"]}, find=_each("exact", share=0.2))
_add("mistral", _family("mistral"), "kl", "corrupted", 0.05, prompts=_PADDED, find=SCORED)
_add("qwen2", _family("qwen2"), "logit-diff", "mean", 0.05, find=FIRST_ORDER)
_add("qwen3", _family("qwen3"), "kl", "zero", 0.05)
_add("neox", _family("neox"), "logit-diff", "corrupted", 0.05, quick=True, find=[*SCORED,
     *FIRST_ORDER, *HISP, *TRAINED[:2]])
_add("neox-sequential", _family("neox, sequential"), "kl", "mean-positional", 0.05)
_add("gptj", _family("gptj"), "prob-diff", "corrupted", 0.01, find=FIRST_ORDER)
_add("gpt-neo", _family("gpt-neo"), "kl", "corrupted", 0.05)
_add("opt", _family("opt"), "logit-diff", "zero", 0.05, find=FIRST_ORDER)
_add("phi", _family("phi"), "kl", "corrupted", 0.05, find=SCORED)
_add("stablelm", _family("stablelm"), "logit-diff", "corrupted", 0.05, find=FIRST_ORDER)
_add("falcon-7b", _family("falcon, 7b"), "kl", "corrupted", 0.05)
_add("falcon-40b", _family("falcon, 40b"), "logit-diff", "mean", 0.05, find=FIRST_ORDER)
_add("falcon-alibi", _family("falcon, alibi"), "kl", "zero", 0.05)
_add("gemma2", _family("gemma2"), "logit-diff", "corrupted", 0.05, find=[*SCORED, *FIRST_ORDER])
_add("gemma3", _family("gemma3"), "kl", "mean", 0.05)
_add("olmo2", _family("olmo2"), "logit-diff", "corrupted", 0.05, quick=True, find=[*SCORED,
     *FIRST_ORDER, *HISP])
_add("mixtral", _family("mixtral"), "kl", "corrupted", 0.05, find=SCORED)

# Compiled programs, with their published circuits.
_add("tracr-reverse", {"bundled": "tracr-reverse"}, "l2", "zero", 0.01, 0.5, task="tracr-reverse",
     quick=True, judge="known")
_add("tracr-xproportion", {"bundled": "tracr-xproportion"}, "l2", "zero", 0.01,
     task="tracr-xproportion", judge="known", find=TRAINED[1:2])
_add("tracr-reverse-task", {"bundled": "tracr-reverse"}, "kl", "corrupted", 0.01,
     task="tracr-reverse", judge="known")
_add("small-lm-ioi", {"bundled": "small-lm"}, "logit-diff", "corrupted", 0.05, task="ioi", n=4,
     grain={"split_heads": True}, judge="roles")
