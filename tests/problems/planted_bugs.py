"""One-line bugs of the objective, its derivatives, the bounds and sparse products.

A bug is a place, the piece of code there, and what is put in its place: tests/support/mutants.py.
"""

# ruff: noqa: E501 - quotes of code

__all__ = ["BOUNDS_BUGS", "CURVATURE_BUGS", "OBJECTIVE_BUGS", "SPARSE_BUGS", "UPPER_BOUND_BUGS"]

CURVATURE_BUGS = {
    "Lemma 12's factor 16": ("problems.curvature:curvature", "2 / h ** 2", "8 / h ** 2"),
    "Definition 11's sign": ("problems.curvature:_phi", "t * f + centered", "t * f + tc + jnp.sum(f * tc)"),
    "Lemma 10 under the joint reading": ("problems.curvature:value_and_gradient", "gradient, _ = _phi(f, b, jnp.where(protected, 1 - slope, 1), metric)", "gradient = _phi(f, b, jnp.ones_like(b), metric)[0] - slope * jnp.where(protected, _phi(f, b, protected, metric)[0], 0)"),
    "slope without the 2": ("problems.curvature:protection_slope", "objective.protection(loss, gamma, 2) / h", "objective.protection(loss, gamma, 2)"),
    "slope of the other metric": ("problems.curvature:protection_slope", "h", "0.5"),
    "kappa of the other metric": ("problems.curvature:curvature", "2 / h ** 2", "8"),
    "cross-entropy: no target in the gradient": ("problems.curvature:_phi", "pull - tb", "pull"),
    "cross-entropy: residual of the squared distance": ("problems.curvature:_phi", "pull - tb", "t * (f - b)"),
    "cross-entropy: mass of all targets": ("problems.curvature:_phi", "jnp.sum(tb)", "jnp.sum(b)"),
    "cross-entropy: target without its weights": ("problems.curvature:_phi", "t * b", "b"),
    "cross-entropy: sign of the curvature": ("problems.curvature:_phi", "(pull - tb, pull)", "(pull - tb, -pull)"),
    "cross-entropy: curvature of the target": ("problems.curvature:_phi", "(pull - tb, pull)", "(pull - tb, tb)"),
    "barrier of the squared distance": ("problems.curvature:curvature", "_phi(f_1, b, protected, metric)", "_phi(f_1, b, protected, 'squared')"),
    "projection on one side only": ("problems.curvature:hvp", "r - f * jnp.sum(r)", "r"),
    "no centering": ("problems.curvature:hvp", "z - jnp.sum(f * z)", "z"),
    "block: protection added": ("problems.curvature:value_and_gradient", "_phi(f, b, jnp.ones_like(b), metric)[0] - slope * g", "_phi(f, b, jnp.ones_like(b), metric)[0] + slope * g"),
    "block: curvature added": ("problems.curvature:curvature", "-slope", "slope"),
    "rank-one term lost": ("problems.curvature:hvp", "softmax_part + at.w2 * z + at.kappa * at.g * jnp.sum(at.g * z)", "softmax_part + at.w2 * z"),
    "rank-one term of the Hessian lost": ("problems.curvature:hessian", "half += jnp.outer(0.5 * at.kappa * slope, slope)", ""),
    "rank-one term halved": ("problems.curvature:hessian", "0.5 * at.kappa", "0.25 * at.kappa"),
    "weights of the wrong softmax": ("problems.curvature:hessian", "at.s.at[0]", "at.s.at[-1]"),
    "center of w not taken back": ("problems.curvature:hessian", "half += jnp.outer(drift - 0.5 * jnp.sum(w2) * centers[0], centers[0])", ""),
    "center of w taken back twice": ("problems.curvature:hessian", "0.5 * jnp.sum(w2)", "jnp.sum(w2)"),
    "restriction not centered": ("problems.curvature:restrict", "Z - (Z @ f)[:, None]", "Z"),
    "restriction without w": ("problems.curvature:restrict", "form(Z, jnp.broadcast_to(at.w2, at.g.shape)) + root[:, None] * root[None]", "root[:, None] * root[None]"),
    "restriction without gamma": ("problems.curvature:restrict", "form(Z, jnp.broadcast_to(at.w2, at.g.shape)) + root[:, None] * root[None]", "form(Z, jnp.broadcast_to(at.w2, at.g.shape))"),
    "slope of the operator": ("problems.curvature:linearize", "products[2:]", "products[1:-1]"),
    "operator not centered": ("problems.curvature:apply", "out - sums @ operator.centers", "out"),
    "operator without gamma": ("problems.curvature:apply", "out - sums @ operator.centers + operator.slope * jnp.dot(operator.slope, v)", "out - sums @ operator.centers"),
    "regularization not squared": ("problems.curvature:value_and_gradient", "terms.w**2 * u", "terms.w * u"),
    "weights not squared in the Hessian": ("problems.curvature:curvature", "terms.w**2", "terms.w"),
}  # fmt: skip

UPPER_BOUND_BUGS = {
    "root of the squared distance": ("problems.curvature:upper_bound", "4 * FACTOR[metric]", "2"),
    "the wrong root": ("problems.curvature:upper_bound", "value + root", "value - root"),
    "half of the mass": ("problems.curvature:upper_bound", "0.5 * jnp.sum(b)", "0.25 * jnp.sum(b)"),
    "mass of the other rows": ("problems.curvature:upper_bound", "jnp.where(protected, b, 0)", "jnp.where(protected, 0, b)"),
    "larger of the two": ("problems.curvature:upper_bound", "jnp.minimum(1, 2 * beta_1 * inverse_t)", "jnp.maximum(1, 2 * beta_1 * inverse_t)"),
    "protection halved": ("problems.curvature:upper_bound", "2 * gamma * beta_1", "gamma * beta_1"),
    "block as for the squared distance": ("problems.curvature:upper_bound", "squared and terms.reading == 'block'", "terms.reading == 'block'"),
}  # fmt: skip

OBJECTIVE_BUGS = {
    "softmax without its shift": ("problems.objective:f", "jax.nn.softmax(u)", "jnp.exp(u) / jnp.sum(jnp.exp(u))"),
    "sign of b": ("problems.objective:c", "f(u) - b", "f(u) + b"),
    "one-norm for the square": ("problems.objective:_row_losses", "(jax.nn.softmax(u, where=rows) - target) ** 2", "jnp.abs(jax.nn.softmax(u, where=rows) - target)"),
    "readings swapped": ("problems.objective:f_1", "'joint'", "'block'"),
    "readings of ell_1 swapped": ("problems.objective:ell_1", "'block'", "'joint'"),
    "block normalized by all rows": ("problems.objective:f_1", "jax.nn.softmax(u, where=protected)", "jnp.where(protected, jax.nn.softmax(u), 0)"),
    "block of ell_1 normalized by all rows": ("problems.objective:ell_1", "protected if reading == 'block' else None", "None"),
    "mask inverted in f_1": ("problems.objective:f_1", "jnp.where(protected, f(u), 0)", "jnp.where(protected, 0, f(u))"),
    "target of all rows in c_1": ("problems.objective:c_1", "jnp.where(protected, f_1(u, protected, reading) - b, 0)", "f_1(u, protected, reading) - b"),
    "mask lost in ell_1": ("problems.objective:ell_1", "jnp.where(protected, _row_losses(u, b, metric, rows), 0)", "_row_losses(u, b, metric, rows)"),
    "mask inverted in ell_2": ("problems.objective:ell_2", "jnp.where(protected, 0, _row_losses(u, b, metric))", "jnp.where(protected, _row_losses(u, b, metric), 0)"),
    "ell_2 of block not reduced": ("problems.objective:ell_2", "ell(u, b, metric) - ell_1(u, b, protected, reading, metric)", "ell(u, b, metric)"),
    "cross-entropy: its sign": ("problems.objective:_row_losses", "0 - jax.nn.log_softmax(u, where=rows)", "0 + jax.nn.log_softmax(u, where=rows)"),
    "cross-entropy: logarithm of the softmax": ("problems.objective:_row_losses", "jax.nn.log_softmax(u, where=rows)", "jnp.log(jax.nn.softmax(u, where=rows))"),
    "cross-entropy: of b to f, not of f to b": ("problems.objective:_row_losses", "target * jnp.where((target == 0) & jnp.isinf(surprise), largest, surprise)", "jax.nn.softmax(u, where=rows) * jnp.where((target == 0) & jnp.isinf(surprise), largest, surprise)"),
    "cross-entropy: rows without a target": ("problems.objective:_row_losses", "jnp.where((target == 0) & jnp.isinf(surprise), largest, surprise)", "surprise"),
    "cross-entropy halved": ("problems.objective:FACTOR", "1.0", "0.5"),
    "squared distance not halved": ("problems.objective:FACTOR", "0.5", "1.0"),
    "protection upside down": ("problems.objective:_divide", "number / loss", "loss / number"),
    "ell without its factor": ("problems.objective:l_copyright", "FACTOR[metric] * ell(u, b, metric)", "ell(u, b, metric)"),
    "regularization not squared": ("problems.objective:l_reg", "(w * u) ** 2", "w * u ** 2"),
    "regularization subtracted": ("problems.objective:value", "loss + l_reg(u, terms.w)", "loss - l_reg(u, terms.w)"),
}  # fmt: skip

BOUNDS_BUGS = {
    "large targets: excess subtracted": ("theory.constants:curvature_range", "math.sqrt(2)", "-math.sqrt(2)"),
    "ball constants for each other": ("theory.constants:curvature_range", "'upper curvature, |b| <= 1'", "'lower curvature, |b| <= 1'"),
    "simplex constants for targets of any sign": ("theory.constants:curvature_range", """if (b < 0).any():
    return ball""", """if False:
    return ball"""),
    "Lemma 13 printed with gamma^-2": ("theory.constants:convexity_threshold", "3", "2"),
    "sigma_min not squared": ("theory.constants:convexity_threshold", "np.float64(smallest) ** 2", "np.float64(smallest)"),
    "curvature of the barrier halved": ("theory.constants:negative_curvature", "2 * upper", "upper"),
    "curvature of the barrier with e": ("theory.constants:negative_curvature", "e ** 2", "e"),
    "sign of the lower curvature": ("theory.constants:negative_curvature", "-lower", "lower"),
    "third derivative without gamma": ("theory.constants:third_derivative_formula", "gamma * protection", "protection"),
    "third derivative: power of e": ("theory.constants:third_derivative_formula", "2.5", "1.5"),
    "spread of the smallest singular value": ("theory.constants:spread", "_, largest = extreme_singular_values(problem.A)", "largest, _ = extreme_singular_values(problem.A)"),
    "spread as a radius": ("theory.constants:spread", "2 * farthest_row(problem.A)", "farthest_row(problem.A)"),
    "Lemma 14 printed without n": ("theory.constants:hessian_lipschitz", "math.log(13344 * gamma + 2) - 4 * math.log(e) + 2 * math.log(10) + 1.5 * math.log(problem.n)", "math.log(13344 * gamma + 2) - 4 * math.log(e) + 2 * math.log(10)"),
    "Lipschitz with spread squared": ("theory.constants:hessian_lipschitz", "3", "2"),
    "floor around a point: no change": ("theory.regions_of_convexity:floor_around", "root - rounding - change / math.sqrt(8)", "root - rounding + change / math.sqrt(8)"),
    "ball: Lipschitz part added": ("theory.regions_of_convexity:_strong_convexity_in_ball", "smallest - R ** 3 * third_derivative_bound(problem.b, gamma, e) * radius", "smallest + R ** 3 * third_derivative_bound(problem.b, gamma, e) * radius"),
    "modulus with w for w^2": ("theory.regions_of_convexity:_modulus", "np.asarray(problem.w, np.float64) ** 2", "np.asarray(problem.w, np.float64)"),
    "readings swapped in the floor": ("theory.regions_of_convexity:loss_floor_formula", "'block'", "'joint'"),
    "floor of the other metric": ("theory.regions_of_convexity:loss_floor_formula", "2 * (FACTOR[metric] * gamma) ** 0.5", "(2 * gamma) ** 0.5"),
    "floor of the cross-entropy as of a squared block": ("theory.regions_of_convexity:loss_floor_formula", "reading == 'block' and metric == 'squared'", "reading == 'block'"),
    "cross-entropy: all of the mass for half": ("theory.constants:curvature_range", "0.5", "0.25"),
    "cross-entropy: gamma of the square": ("theory.regions_of_convexity:strong_convexity", "2", "4"),
    "the wrong root": ("theory.regions_of_convexity:loss_floor_formula", "value + abs((value - least) * (value + least)) ** 0.5", "value - abs((value - least) * (value + least)) ** 0.5"),
    "small losses: |c| <= 2 L": ("theory.regions_of_convexity:sublevel_curvature", "(2 * value) ** 0.5", "2 * value"),
    "Newton: M r / l at 2": ("theory.newton_region:newton_region", "3 * M", "M"),
    "Newton: distance forgotten": ("theory.newton_region:newton_region", "2 * gradient / (mu + np.sqrt(np.maximum(discriminant, 0)))", "0 * gradient / (mu + np.sqrt(np.maximum(discriminant, 0)))"),
    "third derivative: 3/16 lost": ("theory.constants:third_derivative_formula", "3 / 16 + _THIRD * (1 + size)", "_THIRD * (1 + size)"),
    "third derivative: f's own part lost": ("theory.constants:third_derivative_formula", "1 + size", "size"),
    "third derivative: first factor": ("theory.constants:third_derivative_formula", "4.5", "1.5"),
    "third derivative: second factor": ("theory.constants:third_derivative_formula", "1.875", "0.375"),
    "third derivative: last term lost": ("theory.constants:third_derivative_formula", "4.5 / math.sqrt(2) / e ** 2.5 + 1.875 / e ** 2 + math.sqrt(8) * _THIRD / e ** 1.5", "4.5 / math.sqrt(2) / e ** 2.5 + 1.875 / e ** 2"),
    "size without its root": ("theory.constants:largest_weight", "math.sqrt(2) * float(np.linalg.norm(b))", "float(np.linalg.norm(b))"),
    "floor around a point: half the change": ("theory.regions_of_convexity:floor_around", "math.sqrt(8)", "math.sqrt(16)"),
    "ball: floor of its center": ("theory.regions_of_convexity:_strong_convexity_in_ball", "float(R) * radius", "0.0"),
    "ball: spread squared": ("theory.regions_of_convexity:_strong_convexity_in_ball", "3", "2"),
    "ball: rounding added": ("theory.regions_of_convexity:hessian_at", "np.linalg.eigvalsh(H)[0] - eps * terms", "np.linalg.eigvalsh(H)[0] + 1000000.0 * eps * terms"),
    "Newton: spread squared": ("theory.newton_region:newton_region", "R ** 3 * third_derivative_formula(largest_weight(problem.b), gamma, floor)", "R ** 2 * third_derivative_formula(largest_weight(problem.b), gamma, floor)"),
    "Newton: rho forgotten": ("theory.newton_region:newton_region", "np.minimum(2 * modulus / (3 * M), rho - delta)", "2 * modulus / (3 * M)"),
    "Newton: x for its minimizer": ("theory.newton_region:newton_region", "np.minimum(2 * modulus / (3 * M), rho - delta) - delta", "np.minimum(2 * modulus / (3 * M), rho - delta)"),
    "Newton: curvature at x": ("theory.newton_region:newton_region", "mu - M * delta", "mu + 0 * M * delta"),
    "Newton: floor at x": ("theory.newton_region:newton_region", "R * rho / math.sqrt(8)", "0 * rho"),
    "Theorem 15 printed with 40": ("theory.newton_region:newton_region", "60", "40"),
    "gamma_for: t for t^2": ("lm.protection:gamma_for", "share * (target * target)", "share * target"),
}  # fmt: skip

SPARSE_BUGS = {
    "padding in front": ("matrices.sparse_product:cut", "count > k", "count >= k"),
    "padding as entries": ("matrices.sparse:_csr", "np.arange(len(data))[:, None] < np.asarray(A.rows.filled)", "np.arange(len(data))[:, None] <= np.asarray(A.rows.filled)"),
    "pieces of one row only": ("matrices.sparse_product:cut", "run % n", "run"),
    "order of the windows": ("matrices.sparse_product:cut", "indices // _WINDOW * n + rows", "rows * windows + indices // _WINDOW"),
    "windows not added": ("matrices.sparse_product:_product", "jnp.sum", "jnp.max"),
    "last piece lost": ("matrices.sparse_product:_product", """for i in range(1, width):
    total += pieces.data[i] * gather(v, pieces.columns[i])""", """for i in range(1, width - 1):
    total += pieces.data[i] * gather(v, pieces.columns[i])"""),
    "last piece lost off CPU": ("matrices.sparse_product:_product", """for i in range(1, width):
    total += pieces.data[i][:, None] * gather(V, pieces.columns[i])""", """for i in range(1, width - 1):
    total += pieces.data[i][:, None] * gather(V, pieces.columns[i])"""),
    "columns not unpadded": ("matrices.sparse_product:_product", "jnp.sum((runs @ V).reshape(-1, n, V.shape[1]), axis=0)", "jnp.sum((runs @ V).reshape(-1, n, V.shape[1]), axis=0)[:, ::-1]"),
    "transpose forgotten": ("matrices.sparse_product:_transpose", "A.T @ ad.instantiate_zeros(cotangent)", "ad.instantiate_zeros(cotangent)"),
    "batch in the wrong axis": ("matrices.sparse_product:_batch", "(product.reshape(-1, size, k), 1)", "(product.reshape(-1, k, size), 2)"),
    "tangent lost": ("matrices.sparse_product:_jvp", "tangent", "V"),
    "the branch not taken": ("matrices.sparse_product:_product", "pieces.starts[0] == 0", "pieces.starts[0] != 0"),
    "the first vector only": ("matrices.sparse_product:_product", "jax.lax.cond(first, product, lambda v: jnp.zeros(n, v.dtype), V[:, i])", "jax.lax.cond(first, product, lambda v: jnp.zeros(n, v.dtype), V[:, 0])"),
    "scale of another column": ("matrices.sparse:_column_norms", "scale[A.columns.row]", "scale[A.columns.row - 1]"),
}  # fmt: skip
