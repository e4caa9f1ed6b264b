"""A second forward pass, in mpmath, and a second writer of model folders: they share nothing."""

import json
import struct

import mpmath
import numpy as np

mp = mpmath.mp.clone()
mp.dps = 80

exact = np.vectorize(mp.mpf, otypes=[object])
root, exp, tanh = (np.vectorize(f, otypes=[object]) for f in (mp.sqrt, mp.exp, mp.tanh))


def gpt2(vocab=11, context=9, width=4, layers=2, heads=2):
    return {
        "model_type": "gpt2", "vocab_size": vocab, "n_positions": context, "n_embd": width,
        "n_layer": layers, "n_head": heads, "layer_norm_epsilon": 1e-5,
    }  # fmt: skip


def llama(vocab=11, context=9, width=16, layers=2, heads=4, kv_heads=2, mlp=6):
    return {
        "model_type": "llama", "vocab_size": vocab, "max_position_embeddings": context,
        "hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": kv_heads, "intermediate_size": mlp, "rms_norm_eps": 1e-5,
        "rope_theta": 100.0, "tie_word_embeddings": True, "hidden_act": "silu",
    }  # fmt: skip


def shapes(config):
    """Names and shapes as in checkpoints of transformers."""
    if config["model_type"] == "gpt2":
        d = config["n_embd"]
        found = {"wte.weight": (config["vocab_size"], d), "wpe.weight": (config["n_positions"], d)}
        linear = {"attn.c_attn": (d, 3 * d), "attn.c_proj": (d, d), "mlp.c_fc": (d, 4 * d),
                  "mlp.c_proj": (4 * d, d), "ln_1": (d,), "ln_2": (d,)}  # fmt: skip
        for i in range(config["n_layer"]):
            for name, shape in linear.items():
                found[f"h.{i}.{name}.weight"] = shape
                found[f"h.{i}.{name}.bias"] = shape[-1:]
        found |= {"ln_f.weight": (d,), "ln_f.bias": (d,)}
        return {f"transformer.{name}": shape for name, shape in found.items()}
    d, mlp = config["hidden_size"], config["intermediate_size"]
    keys = d // config["num_attention_heads"] * config["num_key_value_heads"]
    found = {"embed_tokens": (config["vocab_size"], d), "norm": (d,)}
    for i in range(config["num_hidden_layers"]):
        rows = {"q": d, "k": keys, "v": keys, "o": d}
        found |= {f"layers.{i}.self_attn.{p}_proj": (n, d) for p, n in rows.items()}
        found |= {f"layers.{i}.mlp.{p}_proj": (mlp, d) for p in ("gate", "up")}
        found |= {f"layers.{i}.mlp.down_proj": (d, mlp)}
        found |= {f"layers.{i}.{p}_layernorm": (d,) for p in ("input", "post_attention")}
    return {f"model.{name}.weight": shape for name, shape in found.items()}


def draw(config, rng, dtypes=("F32",), scale=1.0):
    """Raw bytes and dtype of each weight, some of them subnormal or zero."""
    found = {}
    for name, shape in shapes(config).items():
        numbers = rng.normal(scale=scale, size=shape).astype(np.float32)
        numbers *= rng.choice([1, 0, 2.0**-140], shape, p=[0.9, 0.05, 0.05]).astype(np.float32)
        dtype = str(rng.choice(dtypes))
        if dtype == "BF16":
            raw = (numbers.view(np.uint32) >> 16).astype("<u2").tobytes()
        else:
            raw = numbers.astype({"F32": "<f4", "F16": "<f2"}[dtype]).tobytes()
        found[name] = (dtype, shape, raw)
    return found


def decode(dtype, shape, raw):
    """Exact numbers by the standard library."""
    if dtype == "BF16":
        pairs = [raw[i : i + 2] for i in range(0, len(raw), 2)]
        numbers = [struct.unpack("<f", b"\0\0" + pair)[0] for pair in pairs]
    else:
        code, size = {"F32": ("f", 4), "F16": ("e", 2)}[dtype]
        numbers = struct.unpack(f"<{len(raw) // size}{code}", raw)
    return np.array(numbers, np.float64).reshape(shape)


def write(folder, config, weights):
    folder.mkdir(exist_ok=True)
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, (dtype, shape, raw) in weights.items():
        place = [len(data), len(data) + len(raw)]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": place}
        data += raw
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def logits(config, weights, tokens):
    """(length, vocab_size) mpmath numbers."""
    w = {name.split(".", 1)[1]: exact(decode(*entry)) for name, entry in weights.items()}
    return (_gpt2 if config["model_type"] == "gpt2" else _llama)(config, w, np.array(tokens))


def _softmax(scores):
    e = exp(np.where(np.tri(len(scores), dtype=bool), scores, mp.mpf(-10000)))
    e = np.where(np.tri(len(scores), dtype=bool), e, mp.mpf(0))
    return e / e.sum(axis=1, keepdims=True)


def _gpt2(c, w, tokens):
    heads, epsilon = c["n_head"], mp.mpf(c["layer_norm_epsilon"])

    def norm(x, name):
        x = x - x.mean(axis=1, keepdims=True)
        deviation = root((x * x).mean(axis=1, keepdims=True) + epsilon)
        return x / deviation * w[name + ".weight"] + w[name + ".bias"]

    def dense(x, name):
        return x @ w[name + ".weight"] + w[name + ".bias"]

    x = w["wte.weight"][tokens] + w["wpe.weight"][: len(tokens)]
    for i in range(c["n_layer"]):
        q, k, v = np.split(dense(norm(x, f"h.{i}.ln_1"), f"h.{i}.attn.c_attn"), 3, axis=1)
        parts = zip(*(np.split(p, heads, axis=1) for p in (q, k, v)), strict=True)
        mixed = [_softmax(a @ b.T / mp.sqrt(a.shape[1])) @ u for a, b, u in parts]
        x = x + dense(np.hstack(mixed), f"h.{i}.attn.c_proj")
        y = dense(norm(x, f"h.{i}.ln_2"), f"h.{i}.mlp.c_fc")
        inner = mp.sqrt(2 / mp.pi) * (y + mp.mpf("0.044715") * y**3)
        x = x + dense((1 + tanh(inner)) * y / 2, f"h.{i}.mlp.c_proj")
    return norm(x, "ln_f") @ w["wte.weight"].T


def _llama(c, w, tokens):
    heads, kv_heads = c["num_attention_heads"], c["num_key_value_heads"]
    size = c["hidden_size"] // heads
    rates = [mp.mpf(c["rope_theta"]) ** (-mp.mpf(2 * j) / size) for j in range(size // 2)]

    def norm(x, name):
        power = (x * x).mean(axis=1, keepdims=True) + mp.mpf(c["rms_norm_eps"])
        return x / root(power) * w[name + ".weight"]

    def turned(x):
        """Pairs of entries as complex numbers."""
        half = size // 2
        z = x[:, :half] + x[:, half:] * mp.mpc(0, 1)
        z = z * np.array([[mp.expj(t * rate) for rate in rates] for t in range(len(x))])
        parts = (np.vectorize(f, otypes=[object])(z) for f in (mp.re, mp.im))
        return np.hstack(list(parts))

    x = w["embed_tokens.weight"][tokens]
    for i in range(c["num_hidden_layers"]):
        get = lambda name, i=i: w[f"layers.{i}.{name}_proj.weight"].T  # noqa: E731
        y = norm(x, f"layers.{i}.input_layernorm")
        q, k, v = (y @ get(f"self_attn.{p}") for p in "qkv")
        q, k, v = (np.split(p, n, axis=1) for p, n in ((q, heads), (k, kv_heads), (v, kv_heads)))
        mixed = []
        for j, part in enumerate(q):
            their = j * kv_heads // heads
            scores = turned(part) @ turned(k[their]).T / mp.sqrt(size)
            mixed.append(_softmax(scores) @ v[their])
        x = x + np.hstack(mixed) @ get("self_attn.o")
        y = norm(x, f"layers.{i}.post_attention_layernorm")
        gate = y @ get("mlp.gate")
        x = x + (gate / (1 + exp(-gate)) * (y @ get("mlp.up"))) @ get("mlp.down")
    return norm(x, "norm") @ w["embed_tokens.weight"].T
