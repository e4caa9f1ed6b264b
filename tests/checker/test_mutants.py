"""Bugs in what proves, planted one at a time: each lets a false statement through.

Not planted, for no false statement follows from them: a lost guard of ``ell_1 > 0`` (a quotient by
a ball around zero is NaN by itself); another center of the rows (any one will do); ``target`` for
``shift`` in the residual of the Cholesky factor (its norm grows by as much as the shift); ``w^2``
rounded to nearest for the ellipsoid, the rounding of V a_i there, and the Gram error of the
Laplacian floor (all are far below other roundings that are accounted for); NaN guards behind which
FLINT is not finite anyway; the test for bounds in the wrong order, whose halves can't both hold.
"""

import itertools

import pytest

from tests.checker.false_files import check_faults, data_faults
from tests.checker.false_numbers import number_faults
from tests.checker.false_proofs import known, proof_faults
from tests.checker.forgeries import make_files
from tests.support.mutants import planted

pytestmark = pytest.mark.usefixtures("in_silence_and_128_bits")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    known()  # by the package as it is
    return make_files(tmp_path_factory.mktemp("planted"))


def faults(part, files, folder):
    """False statements, those first that are nearest to a part of the checker."""
    searches = {
        "data": lambda: data_faults(folder),
        "numbers": number_faults,
        "proofs": proof_faults,
        "check": lambda: check_faults(files),
    }
    nearest = searches.pop(part)
    return itertools.chain(nearest(), *(search() for search in searches.values()))


DATA = {
    "hash without w": ("data:Instance.description", "_hash_array(self.w)", "_hash_array(self.b)"),
    "metric not described": ("data:Instance.description", "self.metric", '"squared"'),
    "gamma described in single precision": ("data:Instance.description",
        "self.gamma.hex()", "float(np.float32(self.gamma)).hex()"),
    "columns not hashed": ("data:Csr.hash",
        "(self.data, self.indices, self.indptr, np.array(self.shape))",
        "(self.data, self.indptr, np.array(self.shape))"),
    "raw bytes of the mask": ("data:make_instance",
        "protected.view(np.uint8) != 0", "protected.view(np.uint8) == 1"),
    "entropy of negative targets": ("data:make_instance",
        'metric == "squared" or (b >= 0).all()', "True"),
    "A not finite": ("data:_hash_pieces",
        "not check_finite or bool(np.isfinite(numbers).all())", "True"),
    "last row lost": ("data:Instance.map_blocks",
        "range(0, self.n, step)", "range(0, max(self.n - 1, 1), step)"),
    "column twice": ("data:make_csr",
        "(np.diff(places) > 0).all()", "(np.diff(places) >= 0).all()"),
    "part from its start": ("data:Csr.part",
        "self.indices[first:last]", "self.indices[: last - first]"),
    "entries counted as bytes": ("archive:InFile.flat", "start * self.dtype.itemsize", "start"),
    "Fortran order read as C": ("archive:_Members.matrix",
        "fortran or math.prod(shape) * dtype.itemsize < _STREAMED",
        "math.prod(shape) * dtype.itemsize < _STREAMED"),
    "compressed numbers read as they lie": ("archive:_Members.matrix",
        "entry.compress_type != zipfile.ZIP_STORED", "False"),
    "another file of the same name": ("archive:StoredFile.require_same",
        "_stamp(self.path if file is None else file) == self.stamp", "True"),
}  # fmt: skip

NUMBERS = {
    "sum not rounded up": ("arithmetic:Box.__add__",
        "up(self.hi + other.hi)", "self.hi + other.hi"),
    "product of equal ends only": ("arithmetic:Box.__mul__",
        "np.minimum(np.minimum(ends[0], ends[1]), np.minimum(ends[2], ends[3]))",
        "np.minimum(ends[0], ends[3])"),
    "exp without its error": ("exponential:_EXP_ERROR", "2.0**-49", "2.0**-60"),
    "log 2 in one part": ("exponential:exp_bounds",
        "(np.clip(x, -1000, 1000) - k * _LN2_HIGH) - k * _LN2_LOW",
        "np.clip(x, -1000, 1000) - k * _LN2_HIGH"),
    "exp: nothing instead of little": ("exponential:exp_bounds", "2.0**-1019", "0.0"),
    "exp: overflow is a bound": ("exponential:exp_bounds", "large | np.isnan(x)", "np.isnan(x)"),
    "share of the smallest total": ("arithmetic:Floats.share",
        "np.where(whole.hi > 0, whole.hi, 1)", "np.where(whole.lo > 0, whole.lo, 1)"),
    "share of a total that may be zero": ("arithmetic:Floats.share", "np.nan", "0.0"),
    "square of an interval over zero": ("arithmetic:Floats.square",
        "np.maximum(np.maximum(v.lo, -v.hi), 0.0)", "np.minimum(np.abs(v.lo), np.abs(v.hi))"),
    "overflow of a total is zero": ("arithmetic:between", 'arb("nan")', "arb(0)"),
    "a step that is none": ("arithmetic:_step", "1.5 * UNIT", "0.4 * UNIT"),
    "a step that is none for little": ("arithmetic:_step",
        "np.abs(x) * (1.5 * UNIT) + TINY", "np.abs(x) * (1.5 * UNIT)"),
    "sum without rounding": ("arithmetic:Floats.sum", "size * ((depth + 1) * UNIT)", "0 * size"),
    "exp: first order only": ("arithmetic:Floats.exp",
        "up(up(radius * radius) + radius)", "radius"),
    "sparse logits: sizes may cancel": ("arithmetic:Floats.logits",
        "np.add.reduceat(np.abs(each), rows.indptr[filled])",
        "np.add.reduceat(each, rows.indptr[filled])"),
    "logits: underflow of one group": ("arithmetic:Floats.logits",
        "2 * len(x) * TINY", "2 * terms * TINY"),
    "choice inverted": ("arithmetic:Floats.choose",
        "np.where(mask, one.hi, two.hi)", "np.where(mask, two.hi, one.hi)"),
    "spread: upper end lost": ("arithmetic:Floats.spread",
        "(part.lo, part.hi)", "(part.lo, part.lo)"),
    "ball widened by a shift": ("arithmetic:Balls.widen", "arb(0, radius)", "arb(radius)"),
    "moments without rounding": ("arithmetic:Floats.moments",
        "up(radius + up(np.abs(middle) * (terms * UNIT)))", "radius"),
    "moments: errors may cancel": ("arithmetic:Floats.moments", "np.abs(centered)", "centered"),
    "Gram error forgotten": ("linear:_gram",
        "arb(trace) * (2 * terms + 2 * d) * UNIT + lost", "lost"),
    "weighted rows: error forgotten": ("survey:_weighted",
        "up(radius + up(np.abs(middle) * (terms * UNIT)))", "radius"),
    "Gram: additions by their squares": ("linear:Gram.__add__",
        "float(np.abs(matrix).sum())", "float(np.sqrt((matrix * matrix).sum()))"),
    "norms: underflow forgotten": ("linear:lengths", "2.0**-500", "0"),
    "floor: ||R|| forgotten": ("linear:eigenvalue_floor",
        "arb(shift) - frobenius(R) - error", "arb(shift) - error"),
    "floor: error forgotten": ("linear:eigenvalue_floor",
        "arb(shift) - frobenius(R) - error", "arb(shift) - frobenius(R)"),
    "float ends taken unproved": ("arithmetic:lower",
        "if arb(bound) <= ball: return bound", "return bound"),
    "certified by negation": ("verdicts:at_least", "ball >= threshold", "not ball < threshold"),
    "at most as at least": ("verdicts:at_most", "ball <= threshold", "ball >= threshold"),
}  # fmt: skip

PROOFS = {
    "a shift per block": ("proofs:_join", "(shift - top).exp() * total", "total"),
    "own shift in a block": ("proofs:View.f",
        "each.total * (each.shift - shift).exp()", "each.total"),
    "blocks of rows swapped": ("proofs:View._sums_by_group",
        "[ar.sum(terms[m]), ar.sum(terms[~m])]", "[ar.sum(terms[~m]), ar.sum(terms[m])]"),
    "the first block for all": ("proofs:View._keep", "self._kept.get((name, block.start))",
        "next((v for (k, _), v in self._kept.items() if k == name), None)"),
    "one precision for all": ("proofs:Points.view",
        "self._views.get(bits)", "next(iter(self._views.values()), None)"),
    "sizes swapped": ("sums:Sums.losses",
        "ell_1 / n1 - ell_2 / (n - n1)", "ell_1 / (n - n1) - ell_2 / n1"),
    "ell_2 of block as joint": ("sums:Sums.losses", "ell_1 + ell_2 - own[0]", "ell_2"),
    "block normalized by all rows": ("proofs:View.f",
        "each.total * (each.shift - shift).exp()",
        "whole[0].total * (whole[0].shift - shift).exp()"),
    "k at a midpoint": ("sums:Sums._factors",
        "square(ell_1)", "square(self.losses.ell_1.mid())"),
    "block: curvature added": ("proofs:View.derivatives", "own_theta * -k", "own_theta * k"),
    "entropy: target of all rows": ("proofs:View._derivative", "f * H - t * b", "f * H - b"),
    "radius lost": ("proofs:in_ball",
        "radius * point.lengths(block, center)", "0 * point.lengths(block, center)"),
    "gradient: offset lost": ("survey:Survey.gradient_norm",
        "gradient.products + moved", "gradient.products"),
    "upper weights": ("regions:hessian_floor", "ar.lower(functools.reduce(operator.add, weights))",
        "ar.upper(functools.reduce(operator.add, weights))"),
    "Gram error not passed on": ("regions:hessian_floor",
        "return M, found.error", "return M, arb(0)"),
    "level: floor too large": ("theorems:least_loss",
        "return (2 * gamma).sqrt()", "return (3 * gamma).sqrt()"),
    "level: block floor too large": ("theorems:least_loss",
        "arb.max(abs(v), abs(1 - v))", "arb.min(abs(v), abs(1 - v))"),
    "level: upper loss for lower": ("sums:Sums.least_loss",
        "lower(self._fit)", "upper(self._fit)"),
    "level: protection at the smallest ell_1": ("sums:Sums.least_loss",
        "upper(self.losses.ell_1)", "lower(self.losses.ell_1)"),
    "dominance: half the reach": ("dominance:Around.__init__",
        "arb(distance) * base.longest", "arb(distance) * base.longest / 2"),
    "dominance: gap forgotten": ("dominance:Around.__init__",
        "reach + arb(distance) * gap", "reach"),
    "dominance: Hoeffding forgotten": ("dominance:Around.__init__",
        "step + square(reach) / 2", "step"),
    "dominance: f at the base": ("dominance:Around._distance", "2 * e * found", "2 * found"),
    "dominance: neighbours forgotten": ("dominance:Around._distance",
        "own + 3 * total * size.most", "own"),
    "dominance: signs of b": ("dominance:Around._distance", "size.most_above", "size.most_below"),
    "dominance: sides swapped": ("dominance:Around._shares", "pair[::-1]", "pair"),
    "dominance: losses at the base": ("dominance:Around._moved_distance",
        "self._ups[softmax] - 1", "0 * self._ups[softmax]"),
    "dominance: the wrong softmax": ("dominance:Around._moved_entropy",
        "self._logs[softmax]", "self._logs[0]"),
    "dominance: block: curvature added": ("dominance:Around.shares", "-k", "k"),
    "dominance: gap of zero": ("survey:Survey.flat_gaps", "found.norm / n", "found.norm / (n * n)"),
    "dominance: all that there is": ("dominance:floor",
        "1 - arb(around.shares[0])", "arb(1)"),
    "dominance: W A x for x": ("dominance:around_level_set", "arb(radius) * widest", "arb(radius)"),
    "survey: the last row's length": ("survey:Survey._found",
        "float(sizes[own].max())", "float(sizes[own][-1])"),
    "k at one end": ("sums:Sums.protection", "k[0].union(k[1])", "k[1]"),
    "defect ignored": ("regions:row_widths", "upper(1 / left.sqrt())", "1.0"),
    "defect without the Gram error": ("regions:row_widths",
        "1 - frobenius(product) - square(size) * found.error", "1 - frobenius(product)"),
    "Laplacian: lower for upper": ("regions:laplacian_floor",
        "ar.upper(total - theta)", "ar.lower(total - theta)"),
    "Laplacian: upper weights": ("regions:laplacian_floor",
        "ar.lower(weights)", "ar.upper(weights)"),
    "level set: wrong root": ("theorems:level_set_tau",
        "half + (square(half) - c * exact_gamma).nonnegative_part().sqrt()",
        "half - (square(half) - c * exact_gamma).nonnegative_part().sqrt()"),
    "level set: n1 for n2": ("theorems:level_set_tau", "n1 * n2", "n1 * n1"),
    "level set: joint bound for block": ("theorems:level_set_tau",
        'reading == "joint" or metric == "cross-entropy"', "True"),
    "level set: the other minimum": ("theorems:level_set_tau",
        "c * exact_gamma * n1 / n", "c * exact_gamma * n2 / n"),
    "paper: n for n1": ("theorems:paper_tau",
        "(2 * arb(gamma)).sqrt() / n1", "(2 * arb(gamma)).sqrt() / n"),
}  # fmt: skip

CHECK = {
    "margin by its midpoint": ("check:protection",
        "at_least(margin, tau)", "at_least(margin.mid(), tau)"),
    "direction by negation": ("format:direction", "losses.protected_mass < losses.target_mass",
        "not losses.protected_mass > losses.target_mass"),
    "one end of a bound": ("check:within", "worst(above, below)", "above"),
    "an open statement is none": ("verdicts:worst",
        "(Verdict.CERTIFIED, Verdict.UNDECIDED, Verdict.REFUTED, Verdict.VOID)",
        "(Verdict.UNDECIDED, Verdict.CERTIFIED, Verdict.REFUTED, Verdict.VOID)"),
    "applies without a radius": ("check:_test_local",
        "arb(local.mu) * local.radius > local.gradient", "True"),
    "applies without a distance": ("check:_test_local",
        "arb(local.mu) * local.distance >= local.gradient", "True"),
    "gradient not tested": ("check:_test_local",
        "at_most(gradient, local.gradient)", "Verdict.CERTIFIED"),
    "curvature at x only": ("check:_test_local",
        "proofs.in_ball(point, center, local.radius)", "proofs.in_ball(point, center, 0.0)"),
    "dominance at x only": ("check:_test_local",
        "dominance.Around(dominance.at(point), local.radius)",
        "dominance.Around(dominance.at(point), 0.0)"),
    "losses at x only": ("check:_test_local",
        "proofs.in_ball(point, center, local.distance)", "proofs.in_ball(point, center, 0.0)"),
    "global not tested": ("check:minimizer_statements", "global_ is not None", "False"),
    "global level not tested": ("check:_test_global",
        "at_most(point.value, claim.level)", "Verdict.CERTIFIED"),
    "modulus may be negative": ("linear:is_floor", "mu > 0", "True"),
    "modulus may be negative below a floor": ("check:_test_curvature",
        "0 < mu <= floor", "mu <= floor"),
    "level not tested": ("check:_test_point", "at_most(point.value, level)", "Verdict.CERTIFIED"),
    "level-set tau not tested": ("check:_test_point", "tau <= level_set_tau(data, level)", "True"),
    "stated findings not tested": ("check:_finding",
        'stated.lower() == "undecided" or stated == proved', "True"),
    "paper: margin of the far end": ("check:at_minimizer",
        "tau_c <= local.margin.lower", "tau_c <= local.margin.upper"),
    "numbers read as they come": ("format:read_number", "number.hex() == text", "True"),
    "bytes not compared": ("format:read_document", "raw == canonical(document)", "True"),
    "data not compared": ("check:require_same", "dump(claimed) != dump(actual)", "False"),
    "control removed": ("check:_control", "protection(margin, above) is Verdict.REFUTED", "True"),
    "control of curvature removed": ("linear:control_floor",
        "is_floor(H, error, 2 * abs(trace) + 2**-1000)", "False"),
    "control of the floor removed": ("survey:Survey.controlled_floor",
        "control_floor(self.gram.balls, self.gram.error)", "None"),
}  # fmt: skip

BUGS = {"data": DATA, "numbers": NUMBERS, "proofs": PROOFS, "check": CHECK}


@pytest.mark.slow
def test_the_checker_as_it_is(files, tmp_path):
    assert not any(faults("data", files, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize(("part", "name"), [(part, name) for part in BUGS for name in BUGS[part]])
def test_bug_is_found(part, name, files, tmp_path):
    place, old, new = BUGS[part][name]
    with planted(f"checker.{place}", old, new):
        assert any(faults(part, files, tmp_path))
