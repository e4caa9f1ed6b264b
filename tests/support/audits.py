"""Audits of works for tests of their page, as `copyreg audit --work ... --out` writes them."""

import math

import numpy as np

PRESET = {
    "prefix": 50, "suffix": 50, "stride": 10, "top_k": 40, "least": 0.001, "budget": 1000,
    "alpha": 0.01,
}  # fmt: skip


def calibration(share, **other):
    return {
        "share": share, "threshold": -31.0, "alpha": 0.01, "num_held_out": 120,
        "exchangeable": True, "p_value": 0.008, "num_documents": 120, "num_compared": 200, **other,
    }  # fmt: skip


NEAR = {
    "distance": 5, "num_passages": 88765, "num_searched": 16, "extractable": 0.11,
    "log_p": math.log(0.25), "log10_samples": 0.48, "gain": 3.5,
}  # fmt: skip


def work(name="Emma", **other):
    """A work of which a model writes some; numbers may be given."""
    heat = [None] * 2 + [-40.0] * 48 + [-7.25] * 50 + [-0.5] * 20 + [-29.75] * 80
    return {
        "name": name, "num_characters": 887654, "num_passages": 88765,
        "excerpt_of": None, "coverage": 0.1234,
        "longest": 4321, "extractable": 0.0987, "greedy": 0.0456, "right": 0.321,
        "strength": 0.0567, "log_p": -0.5 * math.log(10),
        "log10_samples": 0.3010299956639812, "bits": 1.0, "memorized": calibration(0.34),
        "heat": heat, **other,
    }  # fmt: skip


def nothing(name="Emma", **other):
    """A work of which nothing comes out, and no sampling could write any."""
    known = {
        "coverage": 0.0, "longest": 0, "extractable": 0.0, "greedy": 0.0, "right": 0.0,
        "strength": 0.0, "log_p": None,
        "log10_samples": None, "bits": 231.5, "memorized": None, "heat": [None] * 200,
    }  # fmt: skip
    return work(name, **{**known, **other})


def membership(num_works=1, num_held_out=9):
    """Scores that tell a work from most of a few held-out texts."""
    one = {
        "auroc": 0.875, "lower": 0.5104, "upper": 0.9962, "p_value": 0.1,
        "found_at_1_percent": None, "found_at_10_percent": 0.5,
    }  # fmt: skip
    scores = dict.fromkeys(("loss", "zlib", "min_k", "min_k_plus"), one)
    return {
        "num_works": num_works, "num_held_out": num_held_out, "num_tokens": 77, "scores": scores,
    }  # fmt: skip


def audit(*works, held_out=(), **other):
    return {"preset": PRESET, "works": list(works), "held_out": list(held_out), **other}


def large(num_works, num_held_out=0, seed=0):
    """Works whose heat maps have another colour in nearly each part: the longest pages."""
    rng = np.random.default_rng(seed)

    def some(k, **other):
        return work(
            f"The works, volume {k + 1}", coverage=float(rng.uniform()),
            heat=rng.uniform(-30, 0, 200).tolist(), near=NEAR, **other,
        )  # fmt: skip

    works = [some(k, memorized=calibration(float(rng.uniform()))) for k in range(num_works)]
    return audit(*works, held_out=[some(k, memorized=None) for k in range(num_held_out)])
