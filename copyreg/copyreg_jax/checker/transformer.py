"""The exact forward pass of a GPT-2 or a Llama, in balls: every result contains the real number.

Each layer widens the balls by some twenty bits, so deep models need many; the formulas are in
docs/theory/inextractable.md.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from flint import arb, arb_mat, ctx

from copyreg_jax.checker.arithmetic import START_BITS, sum_balls
from copyreg_jax.checker.weights import Model

__all__ = ["Rows", "final_states", "logits"]

Rows = list[list[arb]]
"""A vector for each position."""

_Turns = list[tuple[list[arb], list[arb]]]
"""Cosines and sines of the rotary angles at each position."""

_TOGETHER = 1 << 20
"""Logits that are computed at once: about 100 MB of balls."""


_QUERIES = 128
"""Positions of a window that attend at once: the memory is linear in the length."""


def final_states(model: Model, windows: np.ndarray, precision: int) -> Rows:
    """What the head is applied to at each position of each window, one after the other.

    ``windows`` are (w, length) tokens; a window sees nothing of the others. Together they are
    faster, as the weights become balls once. The precision falls to 128 bits from layer to layer.
    """
    length, is_gpt2 = windows.shape[1], model.kind == "gpt2"
    x = _exact(model.embedding[windows.ravel()]).table()
    with ctx.workprec(precision):
        turn = [] if is_gpt2 else _turns(model, length)
        if is_gpt2:
            x = _added(x, _exact(model.tensors["wpe.weight"][:length]).table() * len(windows))
    for i in range(model.num_layers):
        # Balls are wider with each layer: as many bits less describe them as well, and faster.
        left = (precision - START_BITS) * (model.num_layers - i) // model.num_layers
        with ctx.workprec(START_BITS + left):
            if is_gpt2:
                x = _gpt2_block(model, x, f"h.{i}.", length)
            else:
                x = _llama_block(model, x, f"layers.{i}.", turn)
    with ctx.workprec(START_BITS):
        return _normed(model, x, "ln_f" if is_gpt2 else "norm")


def logits(model: Model, states: Rows) -> Iterator[tuple[int, Rows]]:
    """Logits of the tokens from each number on, block by block."""
    x, tokens = arb_mat(states), max(1, _TOGETHER // len(states))
    for start in range(0, model.vocab_size, tokens):
        yield start, (x * _exact(model.embedding[start : start + tokens].T)).table()


def _gpt2_block(model: Model, x: Rows, name: str, length: int) -> Rows:
    d = model.width
    mixed = _linear(model, _normed(model, x, name + "ln_1"), name + "attn.c_attn")
    q, k, v = ([row[i * d : (i + 1) * d] for row in mixed] for i in range(3))
    x = _added(x, _linear(model, _attend(model, q, k, v, length), name + "attn.c_proj"))
    wide = _linear(model, _normed(model, x, name + "ln_2"), name + "mlp.c_fc")
    root = (2 / arb.pi()).sqrt()
    cubic = arb(44715) / 1000000
    bent = [[y / 2 * (1 + (root * (y + cubic * y * y * y)).tanh()) for y in row] for row in wide]
    return _added(x, _linear(model, bent, name + "mlp.c_proj"))


def _llama_block(model: Model, x: Rows, name: str, turn: _Turns) -> Rows:
    normed = _normed(model, x, name + "input_layernorm")
    q, k, v = (_linear(model, normed, f"{name}self_attn.{part}_proj") for part in "qkv")
    q, k = _turned(model, q, turn), _turned(model, k, turn)
    mixed = _attend(model, q, k, v, len(turn))
    x = _added(x, _linear(model, mixed, name + "self_attn.o_proj"))
    normed = _normed(model, x, name + "post_attention_layernorm")
    gate, up = (_linear(model, normed, f"{name}mlp.{part}_proj") for part in ("gate", "up"))
    pairs = zip(gate, up, strict=True)
    wide = [[g / (1 + (-g).exp()) * u for g, u in zip(*rows, strict=True)] for rows in pairs]
    return _added(x, _linear(model, wide, name + "mlp.down_proj"))


def _exact(numbers: np.ndarray) -> arb_mat:
    rows, columns = numbers.shape
    return arb_mat(rows, columns, numbers.astype(np.float64).ravel().tolist())


def _added(x: Rows, y: Rows) -> Rows:
    return [[a + b for a, b in zip(*rows, strict=True)] for rows in zip(x, y, strict=True)]


def _linear(model: Model, x: Rows, name: str) -> Rows:
    """GPT-2 stores weights as (in, out), with biases, and Llama as (out, in), without."""
    weight, bias = model.tensors[name + ".weight"], model.tensors.get(name + ".bias")
    if bias is None:
        return (arb_mat(x) * _exact(weight.T)).table()
    return _added((arb_mat(x) * _exact(weight)).table(), [list(map(arb, bias.tolist()))] * len(x))


def _normed(model: Model, x: Rows, name: str) -> Rows:
    """LayerNorm of a GPT-2, RMSNorm of a Llama."""
    weight, bias = model.tensors[name + ".weight"].tolist(), model.tensors.get(name + ".bias")
    found = []
    for row in x:
        mean = arb(0) if bias is None else sum_balls(row) / model.width
        centered = [v - mean for v in row]
        scale = (sum_balls(v * v for v in centered) / model.width + model.epsilon).rsqrt()
        found.append([v * scale * w for v, w in zip(centered, weight, strict=True)])
    return found if bias is None else _added(found, [list(map(arb, bias.tolist()))] * len(x))


def _attend(model: Model, q: Rows, k: Rows, v: Rows, length: int) -> Rows:
    """Causal attention within windows; queries share heads of keys and values evenly."""
    size, shared = model.width // model.num_heads, model.num_heads // model.num_kv_heads
    found: Rows = [[] for _ in q]
    starts, queries_of = range(0, len(q), length), range(0, length, _QUERIES)
    for start, head, low in itertools.product(starts, range(model.num_heads), queries_of):
        high, first = min(low + _QUERIES, length), head // shared * size
        own, seen = slice(start + low, start + high), slice(start, start + high)
        queries = arb_mat([row[head * size : (head + 1) * size] for row in q[own]])
        keys, values = (
            arb_mat([row[first : first + size] for row in part[seen]]) for part in (k, v)
        )
        scores = (queries * keys.transpose() * arb(size).rsqrt()).table()
        zeros = [arb(0)] * high
        weights = [_softmax(row[: i + 1]) + zeros[i + 1 :] for i, row in enumerate(scores, low)]
        mixed = (arb_mat(weights) * values).table()
        found[own] = [a + b for a, b in zip(found[own], mixed, strict=True)]
    return found


def _softmax(scores: list[arb]) -> list[arb]:
    shift = max(score.mid() for score in scores)  # any one will do; this one keeps sizes small
    e = [(score - shift).exp() for score in scores]
    total = sum_balls(e)
    return [v / total for v in e]


def _turns(model: Model, length: int) -> _Turns:
    """Cosines and sines of the rotary angles at each position."""
    half = model.width // model.num_heads // 2
    rates = [arb(model.theta) ** (-arb(j) / half) for j in range(half)]
    return [
        ([(t * rate).cos() for rate in rates], [(t * rate).sin() for rate in rates])
        for t in range(length)
    ]


def _turned(model: Model, x: Rows, turn: _Turns) -> Rows:
    """Entries j and half + j of each head are the plane that is turned."""
    half = model.width // model.num_heads // 2
    found = []
    for i, row in enumerate(x):
        cosine, sine = turn[i % len(turn)]
        turned = []
        for start in range(0, len(row), 2 * half):
            a, b = row[start : start + half], row[start + half : start + 2 * half]
            turned += [p * c - q * s for p, q, c, s in zip(a, b, cosine, sine, strict=True)]
            turned += [q * c + p * s for p, q, c, s in zip(a, b, cosine, sine, strict=True)]
        found.append(turned)
    return found
