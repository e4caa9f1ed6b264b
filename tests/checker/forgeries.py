"""Certificates, and forgeries of them: each states what is false or can't be proved."""

import copy
import itertools
import math

import numpy as np

import copyreg_jax as cr
from copyreg_jax.checker import format
from tests.certificates.test_local import convex_problem


def _set(document, *place, value):
    for key in place[:-1]:
        document = document[key]
    document[place[-1]] = value.hex() if isinstance(value, float) else value


def _get(document, *place):
    for key in place:
        document = document[key]
    return float.fromhex(document)


def _shift(name, by):
    def forge(document):
        for end in (0, 1):
            _set(document, "bounds", name, end, value=_get(document, "bounds", name, end) + by)

    return forge


def _claim(name, **values):
    def forge(document):
        for key, value in values.items():
            _set(document, "claims", name, key, value=value(document) if callable(value) else value)

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
    _set(d, "claims", "point", "tau", value=math.nextafter(middle, math.inf) + 1e-15)
    d["claims"]["point"]["verdict"] = "CERTIFIED"


FORGERIES = {
    **{f"{name} from above": _shift(name, by=1e-6)
       for name in ("ell_1", "ell_2", "value", "protected_mass", "target_mass")},
    **{f"{name} from below": _shift(name, by=-1e-6)
       for name in ("ell_1", "ell_2", "value", "protected_mass", "target_mass")},
    "tau": _claim_a_trifle,
    "stated verdict": lambda d: d["claims"]["point"].update(verdict="REFUTED"),
    "direction": lambda d: d.update(
        direction="amplified" if d["direction"] == "suppressed" else "suppressed"),
    "level below x": _claim("level_set", value=lambda d: 0.99 * _get(d, "bounds", "value", 0)),
    "level-set tau": _claim("level_set", tau=lambda d: _get(d, "bounds", "margin", 0) - 1e-9),
    "short gradient": _short_gradient,
    "radius without a minimizer": _claim(
        "local", radius=lambda d: 0.9 * _local(d, "gradient") / _local(d, "mu")),
    "short distance": _short_distance,
    "modulus": _steep,
    "wide radius": _claim("local", radius=1e9),
    "margin of x": _margin_of_x,
    "mass of x": lambda d: _claim("local", protected_mass=d["bounds"]["protected_mass"])(d),
    "direction at the minimizer": lambda d: d["claims"]["local"].update(
        direction="amplified" if d["claims"]["local"]["direction"] == "suppressed"
        else "suppressed"),
    "global modulus": _claim("global", mu=1e3),
    "global without convexity": _claim("global", mu=-1.0),
    "global level below x": _claim(
        "global", level=lambda d: 0.999 * _get(d, "bounds", "value", 0)),
    "global level far above": _claim("global", level=1e9),
    "paper beyond": _paper_beyond,
    "paper: tau_c": lambda d: _set(
        d, "claims", "paper", "tau_c", 0, value=_get(d, "claims", "paper", "tau_c", 1) + 1e-6),
    "paper: hypothesis": _claim("paper", eps_2=lambda d: _get(d, "bounds", "ell_2", 0) - 1e-6,
                                tau_c=EVERYTHING, verdict="UNDECIDED", minimizer="UNDECIDED"),
    "digits that are not read": lambda d: _set(
        d, "claims", "point", "tau", value="0x0.00000000000000000000001p-1"),
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
