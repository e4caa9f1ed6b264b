"""Bounds of exponents in every dtype, against 300 bits, without slack."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flint import arb, ctx

import copyreg_jax as cr
from copyreg_jax.neighbours import naf
from copyreg_jax.neighbours.distributions import log_arrays
from tests.neighbours.test_naf import exact_divergence, exact_rows, tables
from tests.support.mutants import planted

DTYPES = (np.float16, np.float32, np.float64)
MIXED = [(a, b) for a in DTYPES for b in DTYPES]


def kept(call, p, rows, k, mask):
    """The distribution of the theorem, exact; of cp_k, on the draws that it keeps."""
    if call is naf.cp_k:
        weights = [w if keep else None for w, keep in zip(p, mask, strict=True)]
    else:
        columns = list(zip(p, *rows, strict=True))
        factor = arb(2) ** arb(k)
        weights = [
            None if None in c else functools.reduce(arb.min, [c[0], *(factor * q for q in c[1:])])
            for c in columns
        ]
    total = sum((w for w in weights if w is not None), arb(0))
    return [None if w is None else w / total for w in weights]


def beyond(call, dtypes, number=12):
    """How many divergences are not proved to be within the k of `cp_k` or `smooth_cp_k`."""
    wrong = 0
    with ctx.workprec(300):
        for case, table in enumerate(tables(11, number, 3)):
            # Sizes that float16 has.
            p, safe = (np.clip(a, -500, 500) if case % 3 else a for a in (table[0], table[1:]))
            p = np.where(p > -np.inf, np.maximum(p, -500), p).astype(dtypes[0])
            safe = np.where(safe > -np.inf, np.clip(safe, -500, 500), safe).astype(dtypes[1])
            k = 0.7 * (case % 4)
            found = call(p, safe, k)
            if not found.k_bits < np.inf:
                continue
            exact = exact_rows(safe)
            joined = kept(call, exact_rows(p[None])[0], exact, k, found.log_p > -np.inf)
            bound = arb(float(found.k_bits))
            wrong += sum(not exact_divergence(joined, q, "max") <= bound for q in exact)
    return wrong


@pytest.mark.parametrize("call", [naf.cp_k, naf.smooth_cp_k])
@pytest.mark.parametrize("dtypes", MIXED)
def test_k_bounds_the_divergence(call, dtypes):
    assert beyond(call, dtypes) == 0


@pytest.mark.parametrize("kind", ["max", "kl"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_events_are_bounded_from_above(dtype, kind):
    """log p(E) by the theorem, in 300 bits, from the numbers as they are; k is never cast down."""
    assert events_below(dtype, kind) == 0


def events_below(dtype, kind):
    rng, wrong = np.random.default_rng(5), 0
    with ctx.workprec(300):
        for _ in range(100):
            safe, k = dtype(-rng.uniform(5, 50)), rng.uniform(0, 3)
            bound, two = arb(float(naf.event_bound(safe, np.float64(k), kind))), arb(2)
            if kind == "max":
                exact = arb(float(safe)) + arb(k) * two.log()
            else:
                exact = ((arb(k) + 1) * two.log() / arb(-float(safe))).log()
            wrong += not exact <= bound
    return wrong


@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_of_exponents_are_rounded_up(dtype):
    assert sums_below(dtype) == 0
    assert naf.path_bound(np.array([0.3], dtype)).k_bits == dtype(0.3)


def sums_below(dtype):
    rng = np.random.default_rng(6)
    k = rng.uniform(0, 3, size=(50, 30)).astype(dtype)
    sums = naf.path_bound(k).k_bits.astype(float)
    # Multiples of 2^-60, added up as whole numbers.
    exact = [sum(int(float(x) * 2**60) for x in row) for row in k]
    return sum(int(s * 2**60) < e for s, e in zip(sums.tolist(), exact, strict=True))


ROOMS = {
    "cp_k": ("naf:cp_k", "found.k_bits + room", "found.k_bits",
             lambda: beyond(naf.cp_k, (np.float16, np.float16))),
    "smooth_cp_k": ("naf:smooth_cp_k", "found.k_bits + room", "found.k_bits",
                    lambda: beyond(naf.smooth_cp_k, (np.float32, np.float32))),
    "path_bound": ("naf:path_bound", "total + room", "total",
                   lambda: sums_below(np.float64)),
    "event_bound max": ("naf:event_bound", "bound + room", "bound",
                        lambda: events_below(np.float64, "max")),
    "event_bound kl": ("naf:event_bound", "logs[0] - logs[1] + room", "logs[0] - logs[1]",
                       lambda: events_below(np.float64, "kl")),
    "dtypes": ("distributions:log_arrays", "array.astype(dtype)", "array",
               lambda: beyond(naf.smooth_cp_k, (np.float64, np.float16))),
}  # fmt: skip


@pytest.mark.parametrize("name", ROOMS)
def test_each_room_is_needed(name):
    place, old, new, count = ROOMS[name]
    with planted(f"neighbours.{place}", old, new):
        assert count() > 0


def test_all_arrays_get_one_dtype():
    _, a, b = log_arrays(np.zeros(2, np.float16), np.zeros(2))
    assert a.dtype == b.dtype == np.float64
    _, a, b = log_arrays(jnp.zeros(2, jnp.bfloat16), np.zeros(2, np.float16))
    assert a.dtype == b.dtype == np.float32
    for dtype in (np.longdouble, int, complex):
        with pytest.raises(cr.InputError, match="8 bytes at most"):
            log_arrays(np.zeros(2, dtype), jnp.zeros(2))
    with pytest.raises(cr.InputError, match="k_bits has type"):
        naf.event_bound(-1.0, np.longdouble(1))


def test_what_jax_would_round_is_refused():
    single = jnp.zeros(2, jnp.float32)
    with jax.enable_x64(False):
        with pytest.raises(cr.InputError, match="JAX would round numbers of type float64"):
            log_arrays(single, np.zeros(2))
        _, a, b = log_arrays(single, np.zeros(2, np.float32))
        assert a.dtype == b.dtype == np.float32
        assert log_arrays(np.zeros(2))[1].dtype == np.float64


def test_texts_without_mass_in_floats_count():
    log_p = np.array([0.0, -800.0])  # exp is 0 for the second
    assert naf.prompt_bound([[0.5], [100.0]], log_p).k_bits == 100.0
    assert naf.prompt_bound([[0.5], [np.inf]], log_p, "kl").k_bits == math.inf
    assert naf.prompt_bound([[0.5], [np.inf]], [0.0, -np.inf], "kl").k_bits == 0.5
