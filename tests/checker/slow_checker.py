"""A second checker: slow, simple, and written from docs/reference/certificate-format.md alone.

    python -m tests.checker.slow_checker CERTIFICATE INSTANCE

It shares neither code nor method with the package. Numbers are intervals of Python integers, scaled
by 2^-BITS; NumPy only opens the file of the instance. Derivatives are taken by x, from those of the
softmax f. With y = sum f_j a_j, r_i = a_i - y and C = sum f_j r_j r_j^T (so that dy/dx = C)::

    f_i' = f_i r_i ,   f_i'' = f_i (r_i r_i^T - C) ,   (-log f_i)' = -r_i ,   (-log f_i)'' = C

A bound of the Hessian on an ellipsoid is proved by cutting a box around it into pieces, until
interval elimination finds the Hessian positive definite on each. The box lies along the axes.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import math
import struct
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np

BITS = 400
ONE = 1 << BITS
GUARD = 64
MAX_PIECES = 100


class VoidError(Exception):
    """Nothing can be tested."""


class OpenError(Exception):
    """The enclosures are too wide to go on."""


def require(condition, message):
    if not condition:
        raise VoidError(message)


class Interval:
    """The real numbers between lo 2^-BITS and hi 2^-BITS."""

    __slots__ = ("hi", "lo")

    def __init__(self, lo, hi):
        self.lo, self.hi = lo, hi

    @classmethod
    def of(cls, number):
        if isinstance(number, Interval):
            return number
        if isinstance(number, int):
            return cls(number * ONE, number * ONE)
        top, bottom = Fraction(number).as_integer_ratio()
        return cls(top * ONE // bottom, -(-top * ONE // bottom))

    def __neg__(self):
        return Interval(-self.hi, -self.lo)

    def __add__(self, other):
        other = Interval.of(other)
        return Interval(self.lo + other.lo, self.hi + other.hi)

    def __sub__(self, other):
        return self + -Interval.of(other)

    def __rsub__(self, other):
        return -self + other

    def __mul__(self, other):
        other = Interval.of(other)
        ends = [a * b for a in (self.lo, self.hi) for b in (other.lo, other.hi)]
        return Interval(min(ends) >> BITS, -(-max(ends) >> BITS))

    def __truediv__(self, other):
        other = Interval.of(other)
        if other.lo <= 0:
            raise OpenError("division by what may not be positive")
        ends = [a << BITS for a in (self.lo, self.hi)]
        down = min(a // b for a in ends for b in (other.lo, other.hi))
        return Interval(down, max(-(-a // b) for a in ends for b in (other.lo, other.hi)))

    __radd__, __rmul__ = __add__, __mul__

    def __and__(self, other):
        return Interval(max(self.lo, other.lo), min(self.hi, other.hi))

    def square(self):
        near, far = max(self.lo, -self.hi, 0), max(-self.lo, self.hi)
        return Interval(near * near >> BITS, -(-far * far >> BITS))

    def sqrt(self):
        """Root of a number that is known not to be negative."""
        low, high = max(self.lo, 0) << BITS, max(self.hi, 0) << BITS
        above = math.isqrt(high)
        return Interval(math.isqrt(low), above + (above * above < high))

    def exp(self):
        return Interval(_exp(self.lo)[0], _exp(self.hi)[1])

    def log(self):
        return Interval(_log(self.lo)[0], _log(self.hi)[1])

    def middle(self):
        """A number in it, exactly."""
        return Interval(self.lo, self.lo)

    def size(self):
        """The largest absolute value."""
        high = max(-self.lo, self.hi)
        return Interval(high, high)

    def around(self):
        """All numbers that are no larger."""
        high = max(-self.lo, self.hi)
        return Interval(-high, high)


ZERO = Interval(0, 0)


def total(numbers):
    return sum(numbers, ZERO)


def dot(a, b):
    return total(p * q for p, q in zip(a, b, strict=True))


def norm(v):
    return total(a.square() for a in v).sqrt()


def _exp(t):
    """Bounds of exp(t), all scaled by 2^-BITS.

    exp(t) = exp(r)^(2^k) with 0 <= r = t/2^k < 2^-12, and the terms r^j/j! after the last one that
    is added sum to less than twice the first of them. No number is negative, so rounding each one
    down, or each one up, bounds all.
    """
    if t < 0:
        if t < -BITS * ONE:  # exp(-BITS) < 2^-BITS
            return 0, 1
        low, high = _exp(-t)
        return ONE * ONE // high, -(-ONE * ONE // low)
    if t > BITS * ONE:
        raise OpenError("the exponential of a large number")
    scale = BITS + GUARD
    k = max(t.bit_length() - BITS + 12, 0)
    r = t << (GUARD - k)  # exact: k is at most 12 + 9
    low = high = term_low = term_high = 1 << scale
    for j in itertools.count(1):
        term_low = (term_low * r >> scale) // j
        term_high = -((-term_high * r >> scale) // j)
        if term_high <= 1:
            high += 2 * term_high
            break
        low, high = low + term_low, high + term_high
    for _ in range(k):
        low, high = low * low >> scale, -(-high * high >> scale)
    return low >> GUARD, -(-high >> GUARD)


def _log(v):
    """Bounds of log(v), all scaled by 2^-BITS: numbers whose exponentials are on its two sides."""
    if v <= 0:
        raise OpenError("the logarithm of what may not be positive")
    guess = int(math.log(Fraction(v, ONE)) * 2**60) << (BITS - 60)
    for _ in range(4):  # Newton's method doubles the right digits
        near = max(_exp(guess)[0], 1)
        guess += (v - near) * ONE // near
    step = 0  # it stays so for log(1)
    while not (_exp(guess - step)[1] <= v <= _exp(guess + step)[0]):
        step = 2 * step + 1
    return guess - step, guess + step


# Verdicts


ORDER = ("CERTIFIED", "UNDECIDED", "REFUTED", "VOID")


def worst(verdicts):
    return max(verdicts, key=ORDER.index)


def at_least(number, threshold):
    threshold = Interval.of(threshold)
    if number.lo >= threshold.hi:
        return "CERTIFIED"
    return "REFUTED" if number.hi < threshold.lo else "UNDECIDED"


def at_most(number, threshold):
    return at_least(-number, -Interval.of(threshold))


def within(number, bound):
    """Whether the number is in the interval of the certificate; None is a number out of reach."""
    low, high = bound
    if low > high:
        return "REFUTED"
    tests = [at_least(number, low)] if number and low > -math.inf else []
    tests += [at_most(number, high)] if number and high < math.inf else []
    unknown = number is None and bound != [-math.inf, math.inf]
    return worst([*tests, "UNDECIDED" if unknown else "CERTIFIED"])


def stated(said, proved):
    if said.lower() == "undecided" or said == proved:
        return "CERTIFIED"
    return "UNDECIDED" if proved.lower() == "undecided" else "REFUTED"


def direction_of(mass, target):
    if mass.hi < target.lo:
        return "suppressed"
    return "amplified" if mass.lo > target.hi else "undecided"


# The files


def canonical(document):
    return (json.dumps(document, sort_keys=True, indent=1, allow_nan=False) + "\n").encode()


def read_certificate(path):
    try:
        raw = Path(path).read_bytes()
        document = json.loads(raw)
        unsigned = {key: value for key, value in document.items() if key != "sha256"}
        digest = hashlib.sha256(canonical(unsigned)).hexdigest()
        require(canonical({**unsigned, "sha256": digest}) == raw, "not the canonical bytes")
        return decode(document)
    except (OSError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError) as error:
        raise VoidError(repr(error)) from None


def keys(mapping, names):
    require(sorted(mapping) == sorted(names.split()), f"expected the keys {names}")
    return mapping


def number(text, infinite=False):
    value = float.fromhex(text)
    require(value.hex() == text, f"{text} is no float64")
    require(math.isfinite(value) or (infinite and not math.isnan(value)), f"{text} is not finite")
    return value


def decode(document):
    """The certificate with its numbers decoded; every key is there and no other is."""
    keys(document, "format producer instance x bits bounds direction claims sha256")
    require(document["format"] == "copyreg-certificate/2", "unknown format")
    keys(document["instance"], "n d n1 gamma reading metric sha256")
    bounds = keys(document["bounds"], "ell_1 ell_2 margin value protected_mass target_mass")
    claims = keys(document["claims"], "point level_set local global paper")
    shapes = {
        "point": "tau verdict",
        "level_set": "value tau",
        "local": "bits radius mu gradient distance margin protected_mass direction",
        "global": "bits level mu",
        "paper": "eps_2 tau_c hypothesis verdict minimizer",
    }
    require(claims["point"] is not None, "no claim point")
    return {
        **document,
        "x": [number(text) for text in document["x"]],
        "bits": bits(document["bits"]),
        "bounds": {name: interval(pair) for name, pair in bounds.items()},
        "direction": direction(document["direction"]),
        "claims": {
            name: None if claim is None else read_claim(keys(claim, shapes[name]))
            for name, claim in claims.items()
        },
    }


def read_claim(claim):
    return {key: field(key, value) for key, value in claim.items()}


def field(key, value):
    if key == "tau" and value is None:
        return None
    if key in ("verdict", "hypothesis", "minimizer"):
        require(value in ORDER[:3], "unknown verdict")
        return value
    readers = {"bits": bits, "direction": direction}
    intervals = dict.fromkeys(("margin", "protected_mass", "tau_c"), interval)
    return {**readers, **intervals}.get(key, number)(value)


def bits(value):
    require(type(value) is int and (value == 53 or 128 <= value <= 4096), "unknown bits")
    return value


def direction(value):
    require(value in ("suppressed", "amplified", "undecided"), "unknown direction")
    return value


def interval(pair):
    low, high = pair
    return [number(low, infinite=True), number(high, infinite=True)]


def read_arrays(path):
    if Path(path).is_dir():
        return {file.stem: np.load(file, allow_pickle=False) for file in Path(path).glob("*.npy")}
    with np.load(path, allow_pickle=False) as stored:
        return dict(stored)


class Data:
    """An instance as the file holds it, and its numbers as intervals."""

    def __init__(self, path):
        try:
            held = {key: array.tolist() for key, array in read_arrays(path).items()}
        except Exception as error:
            raise VoidError(f"no instance: {error!r}") from None
        self.held = held
        require({"b", "protected", "w", "gamma"} <= held.keys(), "keys are missing")
        self.reading, self.metric = held.get("reading", "joint"), held.get("metric", "squared")
        self.n, self.d, rows = self._matrix()
        self.protected = held["protected"]
        self.n1 = sum(self.protected)
        self.n2 = self.n - self.n1
        require(self.n1 > 0 and self.n2 > 0, "protected must mark some rows and not all")
        require(len(held["b"]) == len(held["w"]) == len(self.protected) == self.n, "misshapen")
        require(self.reading in ("joint", "block"), "unknown reading")
        require(self.metric in ("squared", "cross-entropy"), "unknown metric")
        squared = self.metric == "squared"
        require(squared or min(held["b"]) >= 0, "cross-entropy needs b >= 0")
        numbers = [*itertools.chain(*rows), *held["b"], *held["w"], held["gamma"]]
        require(all(map(math.isfinite, numbers)), "a number is not finite")
        require(held["gamma"] >= 0, "gamma is negative")
        self.A = [[Interval.of(entry) for entry in row] for row in rows]
        self.b, self.w = ([Interval.of(entry) for entry in held[name]] for name in "bw")
        self.gamma = Interval.of(held["gamma"])
        self.h = Interval.of(Fraction(1, 2) if squared else 1)

    def _matrix(self):
        held = self.held
        if "A_data" not in held:
            return len(held["A"]), len(held["A"][0]), held["A"]
        n, d = held["A_shape"]
        rows = [[0.0] * d for _ in range(n)]
        for i, (start, stop) in enumerate(itertools.pairwise(held["A_indptr"])):
            for k in range(start, stop):
                rows[i][held["A_indices"][k]] = held["A_data"][k]
        return n, d, rows

    def description(self):
        held, n, d = self.held, self.n, self.d
        size = hash_part("q", [n, d], (2,))
        if "A_data" not in held:
            A = hash_part("d", [entry for row in held["A"] for entry in row], (n, d))
        else:
            kinds = (("A_data", "d"), ("A_indices", "q"), ("A_indptr", "q"))
            A = b"".join(hash_part(kind, held[key], (len(held[key]),)) for key, kind in kinds)
        others = {
            name: hash_part(kind, held[name], (n,))
            for name, kind in (("b", "d"), ("protected", "?"), ("w", "d"))
        }
        parts = {"A": A + size, **others}
        hashes = {name: hashlib.sha256(part).hexdigest() for name, part in parts.items()}
        return {"n": n, "d": d, "n1": self.n1, "gamma": held["gamma"].hex(),
                "reading": self.reading, "metric": self.metric, "sha256": hashes}  # fmt: skip


def hash_part(kind, numbers, shape):
    """What an array adds to a hash: its kind and shape, and the digest of each piece."""
    label = {"d": "<f8", "q": "<i8", "?": "|b1"}[kind] + str(shape)
    pieces = [numbers[i : i + 2**20] for i in range(0, max(len(numbers), 1), 2**20)]
    packed = (struct.pack(f"<{len(piece)}{kind}", *piece) for piece in pieces)
    return label.encode() + b"".join(hashlib.sha256(piece).digest() for piece in packed)


# The objective


class Softmax:
    """f over some of the rows, where the logits are in intervals, and its first derivative.

    f_i rises with u_i and falls with every other logit, so its bounds are at corners.
    """

    def __init__(self, rows, logits, centered):
        self.rows = rows
        self.logits = [logits[i] for i in rows]
        self.top = max(u.hi for u in self.logits)
        self.low = [Interval(u.lo - self.top, u.lo - self.top).exp() for u in self.logits]
        self.high = [Interval(u.hi - self.top, u.hi - self.top).exp() for u in self.logits]
        self.low_sum, self.high_sum = total(self.low), total(self.high)
        self.f = [
            Interval((low / self._least(i)).lo, (high / self._most(i)).hi)
            for i, (low, high) in enumerate(zip(self.low, self.high, strict=True))
        ]
        mean = [dot(self.f, column) for column in zip(*(centered[i] for i in rows), strict=True)]
        self.r = [[a - m for a, m in zip(centered[i], mean, strict=True)] for i in rows]

    def _least(self, i):
        """The sum of exponentials where f_i is least."""
        return self.high_sum - self.high[i] + self.low[i]

    def _most(self, i):
        return self.low_sum - self.low[i] + self.high[i]

    @functools.cached_property
    def minus_log(self):
        """-log f."""
        return [
            Interval(self._most(i).log().lo - u.hi, self._least(i).log().hi - u.lo)
            + Interval(self.top, self.top)
            for i, u in enumerate(self.logits)
        ]


class Loss:
    """The loss of the rows ``over``: its value, gradient, and weights s of hess = sum s r r^T."""

    def __init__(self, data, softmax, over):
        terms = [
            self._term(data, softmax, k) if data.protected[i] in over else (ZERO, ZERO, ZERO)
            for k, i in enumerate(softmax.rows)
        ]
        values, slope, direct = zip(*terms, strict=True)
        self.value = total(values)
        self.gradient = [dot(slope, column) for column in zip(*softmax.r, strict=True)]
        shared = -total(slope)  # of C: each f_i'' has -f_i C, each (-log f_i)'' has C
        self.weights = [own + shared * f for own, f in zip(direct, softmax.f, strict=True)]

    @staticmethod
    def _term(data, softmax, k):
        """The loss of a row, and the factors of r in its gradient and of r r^T in its Hessian."""
        f, b = softmax.f[k], data.b[softmax.rows[k]]
        if data.metric == "squared":
            return (f - b).square(), 2 * (f - b) * f, 2 * f * (2 * f - b)
        return b * softmax.minus_log[k], -b, ZERO


class State:
    """Losses and derivatives by y, x = x0 + T y, from A T and ``u = A x0``.

    They hold at y = 0, and at each y for which ``|((A T)_i - center) y| <= reach_i`` for all i: the
    logits are as far from u, but for a shift of all.
    """

    def __init__(self, data, A, u, center, reach):
        self.data, self.A, self.u = data, A, u
        self.centered = [[a - c for a, c in zip(row, center, strict=True)] for row in A]
        wide = [u + r.around() for u, r in zip(self.u, reach, strict=True)]
        self.f = Softmax(range(data.n), wide, self.centered)
        self.own = self.f
        if data.reading == "block":
            rows = [i for i in range(data.n) if data.protected[i]]
            self.own = Softmax(rows, wide, self.centered)

    @functools.cached_property
    def all(self):
        return Loss(self.data, self.f, (True, False))

    @functools.cached_property
    def first(self):
        return Loss(self.data, self.own, (True,))

    @functools.cached_property
    def second(self):
        """The value of ell_2 and its gradient."""
        if self.data.reading == "joint":
            other = Loss(self.data, self.f, (False,))
            return other.value, other.gradient
        pairs = zip(self.all.gradient, self.first.gradient, strict=True)
        return self.all.value - self.first.value, [a - b for a, b in pairs]

    def mean(self):
        """The sum of f_i a_i."""
        return [dot(self.f.f, column) for column in zip(*self.A, strict=True)]

    @property
    def margin(self):
        return self.first.value / self.data.n1 - self.second[0] / self.data.n2

    @property
    def margin_slope(self):
        pairs = zip(self.first.gradient, self.second[1], strict=True)
        return [a / self.data.n1 - b / self.data.n2 for a, b in pairs]

    def _protected(self, numbers):
        return total(v for v, m in zip(numbers, self.data.protected, strict=True) if m)

    @property
    def mass(self):
        return self._protected(self.f.f)

    @property
    def mass_slope(self):
        columns = zip(*self.f.r, strict=True)
        return [self._protected(f * r for f, r in zip(self.f.f, c, strict=True)) for c in columns]

    @property
    def target(self):
        return self._protected(self.data.b)

    @property
    def value(self):
        """L; only at a point. None where it may be infinite."""
        data = self.data
        half = total((w * u).square() for w, u in zip(data.w, self.u, strict=True)) / 2
        if data.gamma.hi == 0:
            return data.h * self.all.value + half
        if self.first.value.lo <= 0:
            return None
        return data.h * self.all.value + half + data.gamma / self.first.value

    @property
    def _pull(self):
        """The factor of grad ell_1 in grad L."""
        gamma = self.data.gamma
        return gamma / self.first.value.square() if gamma.hi else ZERO

    @property
    def gradient(self):
        """Grad L; only at a point."""
        data = self.data
        weighted = [w.square() * u for w, u in zip(data.w, self.u, strict=True)]
        columns = zip(self.all.gradient, self.first.gradient, transpose(self.A), strict=True)
        return [data.h * g - self._pull * g1 + dot(weighted, a) for g, g1, a in columns]

    def hessian(self):
        """Hess L."""
        data, pull = self.data, self._pull
        hessian = gram([w.square() for w in data.w], self.A)
        if data.reading == "joint":
            pairs = zip(self.all.weights, self.first.weights, strict=True)
            hessian = add(hessian, gram([data.h * s - pull * s1 for s, s1 in pairs], self.f.r))
        else:
            hessian = add(hessian, gram([data.h * s for s in self.all.weights], self.f.r))
            hessian = add(hessian, gram([-pull * s for s in self.first.weights], self.own.r))
        if data.gamma.hi:
            outer = gram([2 * pull / self.first.value], [self.first.gradient])
            hessian = add(hessian, outer)
        return hessian


def gram(weights, rows):
    """Sum of weight r r^T."""
    d = range(len(rows[0]))
    squares = [[[r[i].square() if i == j else r[i] * r[j] for j in d] for i in d] for r in rows]
    return [[dot(weights, [square[i][j] for square in squares]) for j in d] for i in d]


def add(one, two):
    return [[a + b for a, b in zip(*rows, strict=True)] for rows in zip(one, two, strict=True)]


def identity(d):
    return [[Interval.of(int(i == j)) for j in range(d)] for i in range(d)]


def inverse_if_definite(M):
    """An enclosure of the inverses of all symmetric matrices in M, by Gauss and Jordan.

    None unless all pivots are proved positive; then all those matrices are positive definite.
    """
    d = len(M)
    M = [[*row, *unit] for row, unit in zip(M, identity(d), strict=True)]
    for k in range(d):
        if M[k][k].lo <= 0:
            return None
        M[k] = [entry / M[k][k] for entry in M[k]]
        for i in set(range(d)) - {k}:
            M[i] = [a - M[i][k] * b for a, b in zip(M[i], M[k], strict=True)]
    return [row[d:] for row in M]


def axes(M):
    """About the eigenvectors of a symmetric matrix, by Jacobi's rotations; any T would do."""
    d = len(M)
    M, T = ([[entry.lo / ONE for entry in row] for row in N] for N in (M, identity(d)))
    for i, j in [*itertools.combinations(range(d), 2)] * 8:
        angle = math.atan2(2 * M[i][j], M[j][j] - M[i][i]) / 2
        c, s = math.cos(angle), math.sin(angle)
        M = [turned(row, i, j, c, s) for row in M]
        M = transpose([turned(row, i, j, c, s) for row in transpose(M)])
        T = [turned(row, i, j, c, s) for row in T]
    return [[Interval.of(entry) for entry in row] for row in T]


def turned(row, i, j, c, s):
    row = list(row)
    row[i], row[j] = c * row[i] - s * row[j], s * row[i] + c * row[j]
    return row


def transpose(M):
    return [list(column) for column in zip(*M, strict=True)]


def product(M, N):
    return [[dot(row, column) for column in zip(*N, strict=True)] for row in M]


def length(v, metric):
    """The root of <v, metric v>."""
    return dot(v, [dot(row, v) for row in metric]).sqrt()


def curved(data, u, T, metric, radius, mu):
    """Whether hess L >= mu I is proved on an ellipsoid: <x - x0, metric (x - x0)> <= radius^2.

    The box is of y, x = x0 + T y; ``u = A x0``.
    """
    A, none = product(data.A, T), [ZERO] * data.d
    start = State(data, A, u, none, [ZERO] * data.n)
    center = [m.middle() for m in start.mean()]
    metric = product(product(transpose(T), metric), T)
    inverse = inverse_if_definite(metric)
    if inverse is None:
        return False
    floor = [[mu * entry for entry in row] for row in product(transpose(T), T)]
    sizes = [[entry.size() for entry in row] for row in metric]
    slopes = [[entry.size() for entry in row] for row in start.centered]
    if not curved_on(data, A, u, center, none, none, floor):
        return False  # what is false is mostly false in the middle
    waiting = [(none, [(radius * inverse[j][j].sqrt()).size() for j in range(data.d)])]
    done = 0
    while waiting:
        y, half = waiting.pop()
        if (length(y, metric) - length(half, sizes)).lo > radius.hi:
            continue
        if done == MAX_PIECES:
            return False
        done += 1
        if not curved_on(data, A, u, center, y, half, floor):
            j = max(range(data.d), key=lambda j: max(row[j].hi for row in slopes) * half[j].hi)
            small = [h / 2 if i == j else h for i, h in enumerate(half)]
            for shift in small[j], -small[j]:
                waiting.append(([v + shift if i == j else v for i, v in enumerate(y)], small))
    return True


def curved_on(data, A, u, center, y, half, floor):
    """Whether the Hessian is above the floor within ``half`` of y."""
    try:
        moved = [v + dot(row, y) for v, row in zip(u, A, strict=True)]
        centered = [[(a - c).size() for a, c in zip(row, center, strict=True)] for row in A]
        hessian = State(data, A, moved, center, [dot(row, half) for row in centered]).hessian()
    except OpenError:
        return False
    less = [[-entry for entry in row] for row in floor]
    return inverse_if_definite(add(hessian, less)) is not None


# The claims


class Checker:
    """The statements of a certificate about an instance, each with a verdict."""

    def __init__(self, said, data):
        self.said, self.data = said, data
        self.x = [Interval.of(v) for v in said["x"]]
        self.u, none = product(data.A, [[v] for v in self.x]), [ZERO] * data.n
        self.u = [v for [v] in self.u]
        point = State(data, data.A, self.u, [ZERO] * data.d, none)
        # The reach of a ball is least where the rows are centered at about sum f_i a_i.
        self.center = [m.middle() for m in point.mean()]
        self.point = State(data, data.A, self.u, self.center, none)

    def verdicts(self):
        claims = self.said["claims"]
        tests = {"level_set": self.level_set, "local": self.local,
                 "global": self.global_, "paper": self.paper}  # fmt: skip
        found = {"bounds": self.bounds(), "point": self.margin_claim(claims["point"])}
        for name, test in tests.items():
            if claims[name] is not None:
                try:
                    found[name] = test(claims[name])
                except OpenError:
                    found[name] = "UNDECIDED"
        return found

    def bounds(self):
        point, bounds = self.point, self.said["bounds"]
        numbers = {"ell_1": point.first.value, "ell_2": point.second[0], "margin": point.margin,
                   "value": point.value, "protected_mass": point.mass,
                   "target_mass": point.target}  # fmt: skip
        way = stated(self.said["direction"], direction_of(point.mass, point.target))
        return worst([way, *(within(numbers[name], bound) for name, bound in bounds.items())])

    def margin_claim(self, claim):
        margin = self.point.margin
        false = Interval(margin.hi + 1, margin.hi + 1)
        require(at_least(margin, false) == "REFUTED", "the control failed")
        if claim["tau"] is not None:
            proved = at_least(margin, claim["tau"])
        elif margin.lo > 0:
            proved = "CERTIFIED"
        else:
            proved = "REFUTED" if margin.hi <= 0 else "UNDECIDED"
        return worst([proved, stated(claim["verdict"], proved)])

    def _below(self, level):
        """Whether L(x) <= level."""
        value = self.point.value
        return "UNDECIDED" if value is None else at_most(value, level)

    def level_set(self, claim):
        inside = self._below(claim["value"])
        everywhere = at_least(self._level_set_tau(claim["value"]), claim["tau"])
        if everywhere != "CERTIFIED":
            beaten = at_least(self.point.margin, claim["tau"]) == "REFUTED"
            everywhere = "REFUTED" if beaten and inside == "CERTIFIED" else "UNDECIDED"
        return worst([inside, everywhere])

    def _level_set_tau(self, value):
        data = self.data
        c = 2 if data.metric == "squared" else 1
        n, n1, n2, gamma, value = data.n, data.n1, data.n2, c * data.gamma, c * Interval.of(value)
        if gamma.hi == 0:
            return -value / n2

        def h(t):
            return n * t / (n1 * n2) + gamma / t / n2 - value / n2

        least = (gamma * n1 / n).sqrt()
        if data.reading == "block" and data.metric == "squared":
            low, high = gamma / value, None
        else:
            root = (value.square() / 4 - gamma).sqrt()
            high = value / 2 + root
            low = gamma / high
        if low.lo > least.hi:
            return h(low)
        return h(high) if high and high.hi < least.lo else h(least)

    def paper(self, claim):
        data, point = self.data, self.point
        eps_2, local = Interval.of(claim["eps_2"]), self.said["claims"]["local"]
        tau_c = (2 * data.gamma).sqrt() / data.n1 - eps_2 / data.n2
        there = "UNDECIDED"
        if local is not None and at_most(tau_c, local["margin"][0]) == "CERTIFIED":
            there = "CERTIFIED"
        elif local is not None and at_most(tau_c, local["margin"][1]) == "REFUTED":
            there = "REFUTED"
        return worst([
            within(tau_c, claim["tau_c"]),
            stated(claim["verdict"], at_least(point.margin, tau_c)),
            stated(claim["hypothesis"], at_most(point.second[0], eps_2)),
            stated(claim["minimizer"], there),
        ])  # fmt: skip

    def local(self, claim):
        names = ("radius", "mu", "gradient", "distance")
        radius, mu, gradient, distance = (Interval.of(claim[name]) for name in names)

        applies = (
            mu.lo > 0
            and radius.lo > 0
            and (mu * radius).lo > gradient.hi
            and (mu * distance).lo >= gradient.hi
        )
        # Cheap tests first: a false one spares the cutting.
        tests = [
            at_most(norm(self.point.gradient), gradient),
            "CERTIFIED" if applies else "UNDECIDED",
            *(self._at_minimizer(claim, distance) if applies else ()),
        ]
        if worst(tests) == "CERTIFIED":
            T = axes(self.point.hessian())
            found = curved(self.data, self.u, T, identity(self.data.d), radius, mu)
            tests.append("CERTIFIED" if found else "UNDECIDED")
        return worst(tests)

    def _at_minimizer(self, claim, distance):
        """Bounds within ``distance``: by intervals, and by the mean value theorem."""
        reach = [distance * norm(row) for row in self.point.centered]
        ball, point = State(self.data, self.data.A, self.u, self.center, reach), self.point
        margin = ball.margin & (point.margin + (distance * norm(ball.margin_slope)).around())
        mass = ball.mass & (point.mass + (distance * norm(ball.mass_slope)).around())
        way = direction_of(mass, point.target)
        return [
            within(margin, claim["margin"]),
            within(mass, claim["protected_mass"]),
            stated(claim["direction"], way),
        ]

    def global_(self, claim):
        data, mu, level = self.data, Interval.of(claim["mu"]), Interval.of(claim["level"])
        below = self._below(claim["level"])
        radius = (2 * (level - self._floor())).sqrt()
        G = gram([w.square() for w in data.w], data.A)
        if below != "CERTIFIED" or mu.lo <= 0:
            return worst([below, "UNDECIDED"])
        found = curved(data, [ZERO] * data.n, axes(G), G, radius, mu)
        return "CERTIFIED" if found else "UNDECIDED"

    def _floor(self):
        """A lower bound of ``h ell + gamma/ell_1``; it leaves at most level - floor for L_reg."""
        data = self.data
        if data.reading == "joint" or data.metric == "cross-entropy":
            return 2 * (data.h * data.gamma).sqrt()  # ell >= ell_1 = t, and h t + gamma/t
        own = [b for b, m in zip(data.b, data.protected, strict=True) if m]
        furthest = sum(max(b.square().hi, (1 - b).square().hi) for b in own)  # f_i is in [0, 1]
        return data.gamma / Interval(furthest, furthest)


def check(certificate, instance):
    """The verdict on a certificate, and those on its claims."""
    try:
        said, data = read_certificate(certificate), Data(instance)
        same = canonical(said["instance"]) == canonical(data.description())
        require(same, "the certificate is for other data")
        require(len(said["x"]) == data.d, "x is not d numbers")
        found = Checker(said, data).verdicts()
    except Exception as error:  # a crash is no verdict
        return "VOID", {"void": repr(error)}
    return worst(found.values()), found


if __name__ == "__main__":
    answer, claims = check(*sys.argv[1:])
    print(*(f"{verdict:9} {claim}" for claim, verdict in claims.items()), answer, sep="\n")
    sys.exit({"CERTIFIED": 0, "REFUTED": 1, "VOID": 2, "UNDECIDED": 3}[answer])
