"""Certificates, and forgeries of them: each states what is false or can't be proved."""

import copy
import functools
import itertools
import math
import operator

import numpy as np

import copyreg_jax as cr
from copyreg_jax.checker import format
from tests.certificates.test_local import convex_problem


def nudged(text, ulps):
    """The number some floats above, or below."""
    value = float.fromhex(text)
    for _ in range(abs(ulps)):
        value = math.nextafter(value, math.copysign(math.inf, ulps))
    return value.hex()


def at(*place, by):
    """Replace what is at a place by a function of it."""

    def forge(document):
        holder = functools.reduce(operator.getitem, place[:-1], document)
        holder[place[-1]] = by(holder[place[-1]])

    return forge


def other(one, two):
    return lambda said: two if said == one else one


def _get(document, *place):
    return float.fromhex(functools.reduce(operator.getitem, place, document))


def _shift(name, by):
    return at("bounds", name, by=lambda ends: [(float.fromhex(end) + by).hex() for end in ends])


def _claim(name, **values):
    def forge(document):
        for key, value in values.items():
            found = value(document) if callable(value) else value
            document["claims"][name][key] = found.hex() if isinstance(found, float) else found

    return forge


def _local(document, key):
    return _get(document, "claims", "local", key)


EVERYTHING = ["-inf", "inf"]


def _short_gradient(d):
    gradient = 0.9 * _local(d, "gradient")
    _claim("local", gradient=gradient, distance=1.01 * gradient / _local(d, "mu"))(d)


def _steep(d):
    """A modulus that is too large, with all that follows from it."""
    _claim("local", mu=100.0, distance=_local(d, "gradient") / 99)(d)


def _margin_of_x(d):
    """What is proved at x, said of the minimizer."""
    low, high = (_get(d, "bounds", "margin", end) for end in (0, 1))
    _claim("local", margin=[(low - 1e-9).hex(), (high + 1e-9).hex()])(d)
    d["claims"]["paper"] = None


def _short_distance(d):
    _claim(
        "local", distance=0.9 * _local(d, "gradient") / _local(d, "mu"),
        margin=EVERYTHING, protected_mass=EVERYTHING, direction="undecided",
    )(d)  # fmt: skip
    d["claims"]["paper"] = None


def _wide_radius(d):
    """With a modulus that the regularization alone shows at x."""
    mu = 0.2 * _local(d, "mu")
    _claim(
        "local", radius=1e9, mu=mu, distance=1.01 * _local(d, "gradient") / mu,
        margin=EVERYTHING, protected_mass=EVERYTHING, direction="undecided",
    )(d)  # fmt: skip
    d["claims"]["paper"] = None


def _paper_beyond(d):
    """A tau_c within the bounds of the minimizer's margin, said to be reached by it."""
    low, high = (float.fromhex(v) for v in d["claims"]["local"]["margin"])
    n, n1 = d["instance"]["n"], d["instance"]["n1"]
    gamma = float.fromhex(d["instance"]["gamma"])
    eps_2 = (math.sqrt(2 * gamma) / n1 - (0.75 * high + 0.25 * low)) * (n - n1)
    open_ = {"hypothesis": "UNDECIDED", "verdict": "UNDECIDED"}
    d["claims"]["paper"] = {"eps_2": eps_2.hex(), "tau_c": EVERYTHING, **open_,
                            "minimizer": "CERTIFIED"}  # fmt: skip


def _claim_a_trifle(d):
    """As tau, the middle of the bounds of the margin at x, which 53 bits leave open."""
    middle = sum(_get(d, "bounds", "margin", i) for i in (0, 1)) / 2
    _claim("point", tau=math.nextafter(middle, math.inf) + 1e-15, verdict="CERTIFIED")(d)


FORGERIES = {
    **{f"{name} from {side}": _shift(name, by)
       for name in ("ell_1", "ell_2", "value", "protected_mass", "target_mass")
       for side, by in (("above", 1e-6), ("below", -1e-6))},
    "tau": _claim_a_trifle,
    "stated verdict": lambda d: d["claims"]["point"].update(verdict="REFUTED"),
    "direction": at("direction", by=other("suppressed", "amplified")),
    "level below x": _claim("level_set", value=lambda d: 0.99 * _get(d, "bounds", "value", 0)),
    "level-set tau": _claim("level_set", tau=lambda d: _get(d, "bounds", "margin", 0) - 1e-9),
    "short gradient": _short_gradient,
    "radius without a minimizer": _claim(
        "local", radius=lambda d: 0.9 * _local(d, "gradient") / _local(d, "mu")),
    "short distance": _short_distance,
    "modulus": _steep,
    "wide radius": _wide_radius,
    "margin of x": _margin_of_x,
    "mass of x": lambda d: _claim("local", protected_mass=d["bounds"]["protected_mass"])(d),
    "direction at the minimizer": at(
        "claims", "local", "direction", by=other("suppressed", "amplified")),
    "global modulus": _claim("global", mu=1e3),
    "global without convexity": _claim("global", mu=-1.0),
    "global level below x": _claim(
        "global", level=lambda d: 0.999 * _get(d, "bounds", "value", 0)),
    "global level far above": _claim("global", level=1e9),
    "paper beyond": _paper_beyond,
    "paper: tau_c": at("claims", "paper", "tau_c", by=lambda ends: [
        (float.fromhex(ends[1]) + 1e-6).hex(), ends[1]]),
    "paper: hypothesis": _claim("paper", eps_2=lambda d: _get(d, "bounds", "ell_2", 0) - 1e-6,
                                tau_c=EVERYTHING, verdict="UNDECIDED", minimizer="UNDECIDED"),
    "digits that are not read": _claim("point", tau="0x0.00000000000000000000001p-1"),
    "other gamma": lambda d: d["instance"].update(gamma=(0.7).hex()),
    "other data": lambda d: d["instance"]["sha256"].update(w="0" * 64),
}  # fmt: skip


def make_files(folder):
    """Instances of both readings, certificates of points beside their minimizers, and forgeries."""
    found = []
    for seed in itertools.count():
        problem = convex_problem(seed)
        x = np.asarray(cr.solve(problem).x) + np.array([1e-3, -2e-3])
        margin = cr.certify(problem, x).margin
        certificate = cr.certify(problem, x, tau=margin.lower - 0.1)
        local = certificate.local
        if not (certificate.is_global and local) or "undecided" in local.direction:
            continue
        if [problem.reading] == [reading for _, _, _, reading in found]:
            continue
        paths = folder / f"{seed}.json", folder / f"{seed}.npz"
        certificate.save(paths[0])
        cr.save_instance(paths[1], problem)
        forged = {}
        for name, forge in FORGERIES.items():
            document = copy.deepcopy(certificate.document)
            forge(document)
            forged[name] = folder / f"{seed} {len(forged)}.json"
            forged[name].write_bytes(format.canonical(document))
        forged["bytes"] = folder / f"{seed} bytes.json"
        forged["bytes"].write_bytes(paths[0].read_bytes().replace(b"copyreg-jax", b"copyreg-xaj"))
        found.append((*paths, forged, problem.reading))
        if len(found) == 2:
            return found
