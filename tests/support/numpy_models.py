"""GPT-2 and Llama in NumPy: logits of one row of tokens, from parameters by their names."""

import numpy as np
import scipy.special


def attention(q, k, v, size, turn=lambda x, position: x):
    """Position by position; heads of k and v may be shared by several of q."""
    mixed, shared = np.zeros_like(q), q.shape[1] // k.shape[1]
    for head in range(q.shape[1] // size):
        mine, theirs = (slice(h * size, (h + 1) * size) for h in (head, head // shared))
        for t in range(len(q)):
            keys = np.array([turn(k[s, theirs], s) for s in range(t + 1)])
            weights = scipy.special.softmax(keys @ turn(q[t, mine], t) / np.sqrt(size))
            mixed[t, mine] = weights @ v[: t + 1, theirs]
    return mixed


def gpt2_logits(c, w, tokens):
    """Logits of one row in float64, as the architecture is defined."""

    def norm(x, name):
        centered = x - x.mean(-1, keepdims=True)
        scaled = centered / np.sqrt((centered**2).mean(-1, keepdims=True) + c.epsilon)
        return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x, name):
        return x @ w[f"{name}.weight"] + w[f"{name}.bias"]

    x = w["wte.weight"][tokens] + w["wpe.weight"][: len(tokens)]
    for h in (f"h.{layer}" for layer in range(c.num_layers)):
        parts = np.split(linear(norm(x, f"{h}.ln_1"), f"{h}.attn.c_attn"), 3, axis=-1)
        x = x + linear(attention(*parts, c.width // c.num_heads), f"{h}.attn.c_proj")
        y = linear(norm(x, f"{h}.ln_2"), f"{h}.mlp.c_fc")
        y = 0.5 * y * (1 + np.tanh(np.sqrt(2 / np.pi) * (y + 0.044715 * y**3)))
        x = x + linear(y, f"{h}.mlp.c_proj")
    return norm(x, "ln_f") @ w["wte.weight"].T


def llama_logits(c, w, tokens):
    """Logits of one row in float64, as the architecture is defined."""
    size = c.width // c.num_heads

    def norm(x, weight):
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + c.epsilon) * weight

    def turn(x, position):  # as complex numbers: entries j and j + size / 2 of a head
        z = x[: size // 2] + 1j * x[size // 2 :]
        z = z * np.exp(1j * position * c.rope_theta ** (-2 * np.arange(size // 2) / size))
        return np.concatenate([z.real, z.imag])

    x = w["embed_tokens.weight"][tokens]
    for layer in range(c.num_layers):
        p = {k.removeprefix(f"layers.{layer}."): v for k, v in w.items() if f".{layer}." in k}
        y = norm(x, p["input_layernorm.weight"])
        parts = (y @ p[f"self_attn.{name}_proj.weight"].T for name in "qkv")
        x = x + attention(*parts, size, turn) @ p["self_attn.o_proj.weight"].T
        y = norm(x, p["post_attention_layernorm.weight"])
        gate = y @ p["mlp.gate_proj.weight"].T
        hidden = gate / (1 + np.exp(-gate)) * (y @ p["mlp.up_proj.weight"].T)
        x = x + hidden @ p["mlp.down_proj.weight"].T
    return norm(x, w["norm.weight"]) @ w["embed_tokens.weight"].T
