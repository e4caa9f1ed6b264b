"""An oracle that shares nothing with the package: the definitions in mpmath."""

import mpmath

BITS = 4000  # logits differ by up to 2e3, so entries of f by up to 2,900 bits
ROUNDING = mpmath.mpf(2) ** -1000  # of this arithmetic, absolute or relative, with room to spare


def between(low: float, exact: mpmath.mpf, high: float) -> bool:
    """Whether the float bounds enclose the exact number, up to the rounding of the oracle."""
    with mpmath.workprec(BITS):
        slack = ROUNDING * (1 + abs(exact)) if mpmath.isfinite(exact) else 0
        return low - slack <= exact <= high + slack


def transcription(draw, reading, metric="squared"):
    """The definitions, the paper's word for word, in 4000 bits: name -> mpf or list of mpf."""
    with mpmath.workprec(BITS):
        A, x = mpmath.matrix(draw.A.tolist()), mpmath.matrix(draw.x.tolist())
        u = [sum((A[i, j] * x[j] for j in range(A.cols)), mpmath.mpf(0)) for i in range(A.rows)]
        b = [mpmath.mpf(v) for v in draw.b.tolist()]
        m = draw.protected.tolist()
        top = max(u)
        e = [mpmath.exp(v - top) for v in u]
        f = [v / sum(e) for v in e]
        f_1 = f
        if reading == "block":
            # Its own maximum: beside the largest logit of all rows these may underflow.
            own = max(v for v, p in zip(u, m, strict=True) if p)
            e = [mpmath.exp(v - own) for v in u]
            total = sum(v for v, p in zip(e, m, strict=True) if p)
            f_1 = [v / total for v in e]

        def loss(fi, bi):
            if metric == "squared":
                return (fi - bi) ** 2
            return -bi * mpmath.log(fi) if bi else mpmath.mpf(0)

        factor = mpmath.mpf(1) / 2 if metric == "squared" else 1
        ell = sum(loss(fi, bi) for fi, bi in zip(f, b, strict=True))
        ell_1 = sum(loss(fi, bi) for fi, bi, p in zip(f_1, b, m, strict=True) if p)
        reg = sum((mpmath.mpf(wi) * ui) ** 2 for wi, ui in zip(draw.w.tolist(), u, strict=True)) / 2
        gamma = mpmath.mpf(draw.gamma)
        protection = 0 if gamma == 0 else (gamma / ell_1 if ell_1 else mpmath.inf)
        c_1 = [fi - bi for fi, bi, p in zip(f_1, b, m, strict=True) if p]
        return {
            "f": f,
            "f_1": sum(fi * bi for fi, bi, p in zip(f_1, b, m, strict=True) if p),
            "c_1": sum(v**2 for v in c_1),
            "c": sum((fi - bi) ** 2 for fi, bi in zip(f, b, strict=True)),
            "ell": ell,
            "ell_1": ell_1,
            "ell_2": ell - ell_1,
            "margin": ell_1 / sum(m) - (ell - ell_1) / (len(m) - sum(m)),
            "protected_mass": sum(v for v, p in zip(f, m, strict=True) if p),
            "target_mass": sum(v for v, p in zip(b, m, strict=True) if p),
            "l_reg": reg,
            "l_copyright": factor * ell + protection,
            "value": factor * ell + protection + reg,
        }
