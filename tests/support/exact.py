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


def second_order(draw, reading, metric="squared"):  # noqa: PLR0915
    """L, |gradient|, the size of its terms and the squared Newton decrement, in 200 bits.

    By the closed forms of docs/theory/objective.md, which other tests hold against autodiff.
    """
    with mpmath.workprec(200):
        A, x = mpmath.matrix(draw.A.tolist()), mpmath.matrix(draw.x.tolist())
        n, d = A.rows, A.cols
        b, w, m = draw.b.tolist(), draw.w.tolist(), draw.protected.tolist()
        b, w = [mpmath.mpf(v) for v in b], [mpmath.mpf(v) for v in w]
        u, gamma = list(A * x), mpmath.mpf(draw.gamma)

        def softmax(rows):
            top = max(u[i] for i in rows)
            e = [mpmath.exp(u[i] - top) if i in rows else mpmath.mpf(0) for i in range(n)]
            return [v / sum(e) for v in e]

        def phi(f, t):  # value, gradient, weights s, terms without signs
            squared = metric == "squared"
            c = [ti * (fi - bi) for ti, fi, bi in zip(t, f, b, strict=True)]
            mean = sum(fi * ci for fi, ci in zip(f, c, strict=True))
            mass = sum(ti * bi for ti, bi in zip(t, b, strict=True))
            if squared:
                value = sum(ti * (fi - bi) ** 2 for ti, fi, bi in zip(t, f, b, strict=True)) / 2
                slope = [fi * (ci - mean) for fi, ci in zip(f, c, strict=True)]
                s = [fi * (ti * fi + ci - mean) for ti, fi, ci in zip(t, f, c, strict=True)]
                return value, slope, s
            value = -sum(ti * bi * mpmath.log(fi) for ti, fi, bi in zip(t, f, b, strict=True) if ti)
            slope = [mass * fi - ti * bi for ti, fi, bi in zip(t, f, b, strict=True)]
            return value, slope, [mass * fi for fi in f]

        def terms(f, t):
            if metric != "squared":
                mass = sum(ti * bi for ti, bi in zip(t, b, strict=True))
                return [mass * fi + ti * bi for ti, fi, bi in zip(t, f, b, strict=True)]
            e = [ti * (fi + abs(bi)) for ti, fi, bi in zip(t, f, b, strict=True)]
            mean = sum(fi * ei for fi, ei in zip(f, e, strict=True))
            return [fi * (ei + mean) for fi, ei in zip(f, e, strict=True)]

        mask = [mpmath.mpf(bool(v)) for v in m]
        whole = softmax(range(n))
        own = whole if reading == "joint" else softmax([i for i in range(n) if m[i]])
        fit, slope, s = phi(whole, [mpmath.mpf(1)] * n)
        loss, slope_1, s_1 = phi(own, mask)  # h ell_1
        h = mpmath.mpf(1) / 2 if metric == "squared" else mpmath.mpf(1)
        k = gamma * h / loss**2 if gamma else mpmath.mpf(0)
        kappa = 2 * gamma * h / loss**3 if gamma else mpmath.mpf(0)
        value = fit + (gamma * h / loss if gamma else 0)
        value += sum((wi * ui) ** 2 for wi, ui in zip(w, u, strict=True)) / 2
        y = [a - k * c + wi**2 * ui for a, c, wi, ui in zip(slope, slope_1, w, u, strict=True)]
        size = terms(whole, [1 + k * t for t in mask] if reading == "joint" else [1] * n)
        if reading == "block":
            size = [a + k * c for a, c in zip(size, terms(own, mask), strict=True)]
        size = [a + wi**2 * abs(ui) for a, wi, ui in zip(size, w, u, strict=True)]
        rows = [A[i, :] for i in range(n)]
        size = sum(a * mpmath.norm(row) for a, row in zip(size, rows, strict=True))
        gradient = A.T * mpmath.matrix(y)

        H = mpmath.matrix(d, d)
        for weights, f in ((s, whole), ([-k * v for v in s_1], own)):
            center = sum((fi * row for fi, row in zip(f, rows, strict=True)), mpmath.matrix(1, d))
            for weight, row in zip(weights, rows, strict=True):
                H += weight * ((row - center).T * (row - center))
        for wi, row in zip(w, rows, strict=True):
            H += wi**2 * (row.T * row)
        bend = A.T * mpmath.matrix(slope_1)
        H += kappa * (bend * bend.T)
        squared = (gradient.T * mpmath.lu_solve(H, gradient))[0]
        return value, mpmath.norm(gradient), size, squared
