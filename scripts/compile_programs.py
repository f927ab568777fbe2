"""Which transformers compute known RASP programs exactly? Compile them with tracr and ship them.

For every program of `rasp_programs.py` this writes `<name>.safetensors` (float32 weights, y = xW+b)
and `<name>.json` (shape, vocabulary, meaning of the residual directions, examples) into
`src/edgewise/model/bundled/programs/`. Before a file is written, on every legal input of every
length:

1. the residual stream of a plain numpy forward pass on the exported tensors, after the embedding
   and every half layer, equals that of tracr's own haiku model within `EQUAL`;
2. the decoded output equals what the RASP interpreter gives, wherever that is defined.

    pip install -e '.[rasp]'      (tracr-pypi, which brings jax and haiku; and safetensors)
    python scripts/compile_programs.py [--only NAME …] [--out FOLDER]

Expected time: two and a half minutes on one core. With the same package versions the files are the
same bytes on every run, for any PYTHONHASHSEED and any `--only`.
"""

from __future__ import annotations

import argparse
import itertools
import math
import random
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from tracr.compiler import assemble, compiling
from tracr.rasp import causal_eval, rasp

from make_gates import BUNDLED, ExportError, Tensors, forward, model_config, write_model
from rasp_programs import PROGRAMS, Program, fresh

BOS, PAD = "BOS", "compiler_pad"
EQUAL = 1e-5  # largest difference allowed between our residual stream and tracr's
# A selected position beats BOS by exp(50 / sqrt(key size)) only, so attention leaks a little, and a
# numerical output inherits that. A categorical output is one-hot: the right column must lead by:
NUMERICAL_TOLERANCE = 1e-5
SMALLEST_MARGIN = 0.999
PACKAGES = ("tracr-pypi", "jax", "jaxlib", "dm-haiku", "numpy", "safetensors")


def export(compiled: assemble.AssembledTransformerModel, program: rasp.SOp) -> Tensors:
    """tracr's haiku parameters under Edgewise's names and shapes."""
    config, params = compiled.model_config, compiled.params
    heads, d_head = config.num_heads, config.key_size
    d_model = len(compiled.residual_labels)
    tensors: Tensors = {
        "embed.W_E": params["token_embed"]["embeddings"],
        "pos_embed.W_pos": params["pos_embed"]["embeddings"],
    }
    for layer in range(config.num_layers):
        for ours, theirs in (("Q", "query"), ("K", "key"), ("V", "value")):
            linear = params[f"transformer/layer_{layer}/attn/{theirs}"]
            # haiku keeps the heads side by side in the output axis: [d_model (head d_head)]
            split = np.reshape(linear["w"], (d_model, heads, d_head)).transpose(1, 0, 2)
            tensors[f"blocks.{layer}.attn.W_{ours}"] = split
            tensors[f"blocks.{layer}.attn.b_{ours}"] = np.reshape(linear["b"], (heads, d_head))
        linear = params[f"transformer/layer_{layer}/attn/linear"]
        joined = np.reshape(linear["w"], (heads, d_head, d_model))
        tensors[f"blocks.{layer}.attn.W_O"] = joined
        tensors[f"blocks.{layer}.attn.b_O"] = linear["b"]
        for ours, theirs in (("in", "linear_1"), ("out", "linear_2")):
            linear = params[f"transformer/layer_{layer}/mlp/{theirs}"]
            tensors[f"blocks.{layer}.mlp.W_{ours}"] = linear["w"]
            tensors[f"blocks.{layer}.mlp.b_{ours}"] = linear["b"]
    tensors["unembed.W_U"] = unembedding(compiled, program)
    tensors["unembed.b_U"] = np.zeros(tensors["unembed.W_U"].shape[1])
    return {name: np.asarray(tensor, dtype=np.float32) for name, tensor in tensors.items()}


def output_values(compiled: assemble.AssembledTransformerModel) -> list[Any] | None:
    """The values of a categorical output in column order (sorted); None for a number."""
    encoding = getattr(compiled.output_encoder, "encoding_map", None)
    return None if encoding is None else sorted(encoding, key=encoding.__getitem__)


def unembedding(compiled: assemble.AssembledTransformerModel, program: rasp.SOp) -> np.ndarray:
    """[d_model d_vocab_out]: picks the program's own residual directions, found by label."""
    values = output_values(compiled)
    directions = (
        [program.label] if values is None else [f"{program.label}:{value}" for value in values]
    )
    labels = compiled.residual_labels
    if len(set(labels)) != len(labels):
        raise ExportError(f"two residual directions have the same label: {labels}")
    W_U = np.zeros((len(labels), len(directions)))
    for column, direction in enumerate(directions):
        W_U[labels.index(direction), column] = 1
    return W_U


def legal_inputs(program: Program) -> list[tuple[Any, ...]]:
    """Every input the program is defined on, shortest first, without the BOS token."""
    return [
        tokens
        for length in range(1, program.max_length + 1)
        for tokens in itertools.product(program.vocab, repeat=length)
        if not program.distinct or len(set(tokens)) == length
    ]


def interpret(program: Program, expression: rasp.SOp, tokens: tuple[Any, ...]) -> list[Any]:
    """What RASP says the output is at each position; None where it is undefined."""
    evaluate = causal_eval.evaluate if program.causal else rasp.evaluate
    outputs = evaluate(expression, list(tokens))
    # The mean of a single boolean is that boolean, also in a numerical expression.
    if rasp.is_numerical(expression):
        outputs = [None if value is None else float(value) for value in outputs]
    return list(outputs)


def difference_from_tracr(
    tensors: Tensors,
    config: dict[str, Any],
    compiled: assemble.AssembledTransformerModel,
    tokens: np.ndarray,
) -> tuple[float, np.ndarray]:
    """Largest difference in any residual stream, and our output [batch pos d_vocab_out]."""
    residuals, output = forward(tensors, config, tokens)
    theirs = compiled.forward(compiled.params, tokens)
    stream = theirs.transformer_output
    expected = [stream.input_embeddings, *stream.residuals]
    if len(expected) != len(residuals):
        raise ExportError(f"tracr has {len(expected)} residual streams, we have {len(residuals)}")
    difference = max(
        float(np.abs(ours - np.asarray(other)).max())
        for ours, other in zip(residuals, expected, strict=True)
    )
    if output_values(compiled) is None:
        ours, clear = output[..., 0], np.ones(tokens.shape, bool)
    else:
        # Where the output is undefined it is a zero vector up to leaks, and argmax is noise.
        ours, clear = output.argmax(-1), output.max(-1) > 0.5
    decoded = np.abs(ours - np.asarray(theirs.unembedded_output))
    return max(difference, float(decoded[clear].max(initial=0))), output


def output_error(row: np.ndarray, expected: list[Any], values: list[Any] | None) -> float:
    """How far one output [pos d_vocab_out] is from RASP: absolute error, or 1 - margin."""
    errors = [0.0]
    for logits, value in zip(row, expected, strict=True):
        if value is None:
            continue
        if values is None:
            errors.append(abs(float(logits[0]) - float(value)))
        else:
            column = values.index(value)
            others = np.delete(logits, column)
            errors.append(1 - float(logits[column] - others.max(initial=-math.inf)))
    return max(errors)


def prove(
    program: Program,
    expression: rasp.SOp,
    compiled: assemble.AssembledTransformerModel,
    tensors: Tensors,
    config: dict[str, Any],
) -> tuple[float, float]:
    """Check the export on every legal input; return (difference from tracr, from RASP)."""
    encode = compiled.input_encoder.encode
    values = output_values(compiled)
    from_tracr = from_rasp = 0.0
    for _, group in itertools.groupby(legal_inputs(program), key=len):
        inputs = list(group)
        tokens = np.array([encode([BOS, *row]) for row in inputs])
        difference, output = difference_from_tracr(tensors, config, compiled, tokens)
        from_tracr = max(from_tracr, difference)
        for row, logits in zip(inputs, output, strict=True):
            # Position 0 is BOS, where RASP has no output.
            error = output_error(logits[1:], interpret(program, expression, row), values)
            from_rasp = max(from_rasp, error)
            if error > (NUMERICAL_TOLERANCE if values is None else 1 - SMALLEST_MARGIN):
                raise ExportError(f"wrong by {error:.3g} on {row}")
    if from_tracr > EQUAL:
        raise ExportError(f"differs from tracr's model by {from_tracr:.3g}")
    return from_tracr, from_rasp


def examples(
    program: Program, expression: rasp.SOp, compiled: assemble.AssembledTransformerModel
) -> list[dict[str, Any]]:
    """Eight inputs drawn with a fixed seed, taking turns between values of the last output."""
    inputs = legal_inputs(program)
    random.Random(0).shuffle(inputs)
    by_last: dict[Any, list[tuple[Any, ...]]] = {}
    for tokens in inputs:
        by_last.setdefault(interpret(program, expression, tokens)[-1], []).append(tokens)
    turns = itertools.zip_longest(*by_last.values())
    chosen = list(filter(None, itertools.chain.from_iterable(turns)))[:8]
    rows = []
    for tokens in sorted(chosen, key=len):
        expected = interpret(program, expression, tokens)
        decoded = compiled.apply([BOS, *tokens]).decoded[1:]
        for ours, theirs in zip(expected, decoded, strict=True):
            close = ours is None or ours == theirs
            if not close and rasp.is_numerical(expression):
                close = abs(ours - theirs) <= NUMERICAL_TOLERANCE
            if not close:
                raise ExportError(f"tracr decodes {decoded}, RASP {expected}")
        encoded = compiled.input_encoder.encode([BOS, *tokens])
        rows.append({"tokens": encoded, "expected": [None, *expected]})
    return rows


def output_description(expression: rasp.SOp, values: list[Any] | None) -> dict[str, Any]:
    """How to read the output: the column with the largest value names a label, or is a number."""
    if values is None:
        labels = [expression.name]
        return {"kind": "numerical", "labels": labels, "tolerance": NUMERICAL_TOLERANCE}
    kind = "boolean" if all(isinstance(value, bool) for value in values) else "categorical"
    return {"kind": kind, "labels": values}


def compile_one(program: Program, out: Path) -> str:
    """Compile, export, prove and write one program; return a line for the log."""
    started = time.perf_counter()
    expression = fresh(program)
    compiled = compiling.compile_rasp_to_model(
        expression,
        vocab=set(program.vocab),
        max_seq_len=program.max_length,
        causal=program.causal,
        compiler_bos=BOS,
        compiler_pad=PAD,
    )
    settings = compiled.model_config
    tensors = export(compiled, expression)
    config = model_config(
        n_layers=settings.num_layers,
        n_heads=settings.num_heads,
        d_model=len(compiled.residual_labels),
        d_head=settings.key_size,
        d_mlp=settings.mlp_hidden_size,
        d_vocab=tensors["embed.W_E"].shape[0],
        d_vocab_out=tensors["unembed.W_U"].shape[1],
        n_ctx=tensors["pos_embed.W_pos"].shape[0],
        positions="learned",
        causal=settings.causal,
        attention_scale=1 / math.sqrt(settings.key_size),
    )
    if settings.layer_norm or program.causal != settings.causal:
        raise ExportError(f"unexpected model {settings}")
    from_tracr, from_rasp = prove(program, expression, compiled, tensors, config)
    ids = compiled.input_encoder.encoding_map
    values = output_values(compiled)
    sidecar = {
        "name": program.name,
        "description": program.description,
        "config": config,
        "vocab": [str(token) for token in sorted(ids, key=ids.__getitem__)],
        "bos": ids[BOS],
        "pad": ids[PAD],  # an id with an embedding, but tracr masks nothing: do not feed it
        "inputs": sorted(ids[token] for token in program.vocab),
        "max_length": program.max_length,
        "distinct": program.distinct,
        "output": output_description(expression, values),
        "residual": compiled.residual_labels,
        "program": program.source,
        "examples": examples(program, expression, compiled),
        "checked_inputs": len(legal_inputs(program)),
        "compiled_with": {package: version(package) for package in PACKAGES},
    }
    size = write_model(out, tensors, sidecar)
    shape = "/".join(str(config[key]) for key in ("n_layers", "n_heads", "d_head", "d_model"))
    return (
        f"{program.name:26} {shape:>12}/{config['d_mlp']:<4} {sidecar['output']['kind']:12}"
        f"{sidecar['checked_inputs']:5} inputs  tracr {from_tracr:.1e}  rasp {from_rasp:.1e}"
        f" {size:8,} bytes {time.perf_counter() - started:5.1f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Compile RASP programs and write the models.")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="programs to compile")
    parser.add_argument("--out", type=Path, default=BUNDLED, help="folder to write into")
    arguments = parser.parse_args()
    names = [program.name for program in PROGRAMS]
    if unknown := sorted(set(arguments.only or []) - set(names)):
        parser.error(f"no program named {', '.join(unknown)}; there are {', '.join(names)}")
    print("name, layers/heads/d_head/d_model/d_mlp, output, largest differences, size, time")
    for program in PROGRAMS:
        if arguments.only is None or program.name in arguments.only:
            try:
                print(compile_one(program, arguments.out), flush=True)
            except ExportError as error:
                raise SystemExit(f"{program.name}: {error}") from error


if __name__ == "__main__":
    main()
