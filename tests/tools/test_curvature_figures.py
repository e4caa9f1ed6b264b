"""The figures show what they say."""

import sys

import jax
import numpy as np
import pytest

import copyreg_jax as cr
import curvature_figures as plots
import landscape_figures
from copyreg_jax.theory import constants, regions_of_convexity

pytest.importorskip("matplotlib")

NAMES = ["boxes-1d", "boxes-2d", "curvature-spectrum", "landscape-1d", "landscape-2d"]

TARGETS = [[0.2, 0.8], [0.6, -0.8]]  # on the simplex, in the unit ball


@pytest.fixture(scope="module")
def spectrum():
    return plots.curvature_spectrum()


@pytest.fixture(scope="module")
def landscape():
    return plots.landscape_1d().axes[0]


@pytest.fixture(scope="module")
def contours():
    return plots.landscape_2d().axes[0]


def lines(axes, gid):
    return [line.get_xydata() for line in axes.get_lines() if line.get_gid() == gid]


def drawn(axes, gid):
    """The points of the one line with this gid, without its gaps."""
    (points,) = lines(axes, gid)
    return points[np.isfinite(points).all(axis=1)]


@pytest.mark.quick(1)
@pytest.mark.parametrize(("panel", "b"), list(enumerate(TARGETS)))
def test_eigenvalues_lie_within_the_proved_bounds_and_near_them(spectrum, panel, b):
    axes, proved = spectrum.axes[panel], constants.curvature_range(np.array(b))
    assert [line[0, 1] for line in lines(axes, "proved")] == list(proved)
    for gid in ("random", "adversarial"):
        values = drawn(axes, gid)[:, 1]
        assert proved.lower <= values.min()
        assert values.max() <= proved.upper
    # The last set is the adversarial one.
    assert values.min() <= 0.95 * proved.lower
    assert values.max() >= 0.95 * proved.upper


@pytest.mark.parametrize(
    ("panel", "r", "extremes"),
    [(0, 1.0, (-0.24041, 0.30812)), (1, 2.0**0.5, (-0.3125, 0.35912))],
)
def test_two_point_curve_is_the_formula(spectrum, panel, r, extremes):
    lower, upper = lines(spectrum.axes[panel], "two-point")
    s = lower[:, 0] * (1 - lower[:, 0])
    # 1 - 4s cancels at p = 1/2: its root is good to the root of 2^-52, times 2 r s < 1.
    root = np.sqrt(np.maximum(1 - 4 * s, 0))
    for curve, sign in ((lower, -1), (upper, 1)):
        nonzero = 12 * s**2 - 2 * s + sign * 2 * r * s * root
        expected = np.minimum(nonzero, 0) if sign < 0 else np.maximum(nonzero, 0)
        np.testing.assert_allclose(curve[:, 1], expected, rtol=0, atol=2.0**-26)
    # A grid of step 0.001 misses an extreme by at most 0.0005^2 |f''| / 2 < 1e-5.
    assert (lower[:, 1].min(), upper[:, 1].max()) == pytest.approx(extremes, abs=1e-4)


def test_printed_bounds_are_drawn(spectrum):
    assert [line[0, 1] for line in lines(spectrum.axes[2], "printed")] == [-4, 8]


def test_random_targets_are_reproducible_and_differ_by_seed():
    first, again, other = (
        drawn(plots.curvature_spectrum(num_samples=8, seed=seed).axes[0], "random")
        for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.slow
def test_drawn_curve_is_L_with_the_sign_of_its_second_derivative(landscape):
    problem = landscape_figures._instance_1d()
    second = jax.vmap(jax.hessian(problem.value))
    for gid, sign in (("convex", 1), ("not-convex", -1)):
        x, L = drawn(landscape, gid).T
        np.testing.assert_allclose(jax.vmap(problem.value)(x[:, None]), L, rtol=1e-12)
        assert np.all(sign * second(x[:, None]).ravel() > 0)
    assert len(drawn(landscape, "not-convex")) > 20


def test_drawn_barrier_is_where_f_1_is_b_1(landscape):
    problem = landscape_figures._instance_1d()
    ((x, _), _) = drawn(landscape, "barrier")
    assert x == pytest.approx(-0.17, abs=1e-12)
    assert float(problem.ell_1([x])) < 1e-28  # a few roundings of f, squared
    for side in (x - 1e-6, x + 1e-6):
        assert float(problem.value([side])) > 1e6


INSTANCES = {
    "landscape": landscape_figures._instance_1d,
    "contours": landscape_figures._instance_2d,
}


@pytest.mark.parametrize("figure", INSTANCES)
def test_marked_points_are_minimizers_on_both_sides_of_the_barrier(figure, request):
    axes, problem = request.getfixturevalue(figure), INSTANCES[figure]()
    marked = np.concatenate([drawn(axes, gid) for gid in ("lowest", "minimizers")])
    points = marked[:, : problem.d]
    for x in points:
        assert np.linalg.norm(problem.gradient(x)) < 1e-8
        assert np.linalg.eigvalsh(problem.hessian(x))[0] > 0
    assert {bool(problem.f(x)[0] > problem.b[0]) for x in points} == {True, False}
    values = [float(problem.value(x)) for x in points]
    assert values == sorted(values)
    if problem.d == 1:
        np.testing.assert_allclose(marked[:, 1], values, rtol=1e-12)


def test_floor_proves_convexity_where_it_is_shaded(landscape):
    problem = landscape_figures._instance_1d()
    e = landscape_figures._proved_floor(problem)
    (shaded,) = [area for area in landscape.collections if area.get_gid() == "floor"]
    assert f"{e:.2g}" in shaded.get_label()
    x = np.concatenate([path.vertices[:, 0] for path in shaded.get_paths()])
    assert np.all(jax.vmap(problem.ell_1)(x[:, None]) >= e)
    assert np.all(jax.vmap(problem.hessian)(x[:, None]) >= 0)
    # At the floor itself the proof has nothing to spare, so rounding decides.
    assert regions_of_convexity.strong_convexity(problem, regions_of_convexity.Floor(1.001 * e)) > 0
    assert regions_of_convexity.strong_convexity(problem, regions_of_convexity.Floor(0.999 * e)) < 0


def test_no_floor_is_drawn_where_none_is_proved():
    problem = landscape_figures._instance_1d().replace(w=0.3)
    assert landscape_figures._proved_floor(problem) == np.inf
    axes = plots.landscape_1d(problem).axes[0]
    assert not axes.collections
    assert lines(axes, "barrier")


def test_landscape_without_a_barrier_says_convex():
    problem = cr.CopyrightRegression(
        np.array([[1.0], [0.5]]), [2.0, -1.0], [0], gamma=1e-3, w=3.0
    )  # f_1 < 1 < b_1
    axes = plots.landscape_1d(problem).axes[0]
    assert not lines(axes, "barrier")
    assert not len(drawn(axes, "not-convex"))
    assert axes.get_title() == "L is convex here"


def areas(axes, gid):
    (found,) = [area for area in axes.collections if area.get_gid() == gid]
    return np.concatenate([path.vertices for path in found.get_paths()])


def test_drawn_barrier_curve_is_where_f_1_is_b_1(contours):
    problem = landscape_figures._instance_2d()
    curve = areas(contours, "barrier")
    f_1 = np.asarray(jax.vmap(problem.f)(curve))[:, 0]
    # Linear interpolation over cells of side h errs by at most h^2 |f''| / 4, |f''| <= 0.2 ||A||^2.
    h = float(np.diff(contours.get_xlim())[0]) / (landscape_figures._NUM_POINTS_A_SIDE - 1)
    assert np.abs(f_1 - 0.2).max() <= h**2 * 0.2 * np.linalg.norm(problem.A, 2) ** 2 / 4
    assert len(curve) > 50


def test_hatched_part_has_a_negative_eigenvalue(contours):
    from matplotlib.path import Path

    problem = landscape_figures._instance_2d()
    (hatched,) = [area for area in contours.collections if area.get_gid() == "not-convex"]
    rng = np.random.default_rng(0)
    points = rng.uniform(*contours.get_xlim(), size=(2000, 2))
    inside = np.zeros(len(points), bool)
    for path in hatched.get_paths():
        for polygon in path.to_polygons():  # with holes: a point is inside an odd number
            inside ^= Path(polygon).contains_points(points)
    negative = np.linalg.eigvalsh(jax.vmap(problem.hessian)(points))[:, 0] < 0
    assert np.mean(inside == negative) > 0.99  # the rest is within a cell of the border
    assert 0.1 < np.mean(negative) < 0.9


@pytest.mark.slow
def test_files_are_the_same_every_time_whatever_the_style(tmp_path):
    import matplotlib as mpl

    first = plots.write_figures(tmp_path / "one")
    with mpl.rc_context({"font.size": 20, "svg.fonttype": "path"}):
        before = dict(mpl.rcParams)
        second = plots.write_figures(tmp_path / "other" / "folder")
        assert dict(mpl.rcParams) == before
    names = [f"{name}.svg" for name in NAMES]
    assert [path.name for path in first] == [path.name for path in second] == names
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
        assert 5_000 < one.stat().st_size < 300_000
        assert b"<text" in one.read_bytes()
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == names


def test_main_writes_and_says_where(tmp_path, capsys):
    assert plots.main([str(tmp_path)]) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / f"{name}.svg") for name in NAMES]


@pytest.mark.parametrize("name", ["file", "file/below", "null\0byte"])
def test_bad_folder(tmp_path, name, capsys):
    (tmp_path / "file").touch()
    with pytest.raises(cr.InputError, match="can't write"):
        plots.write_figures(tmp_path / name)
    assert plots.main([str(tmp_path / name)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_without_matplotlib(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for draw in (plots.curvature_spectrum, plots.landscape_1d, plots.landscape_2d):
        with pytest.raises(ImportError, match="pip install matplotlib"):
            draw()
    assert plots.main([str(tmp_path)]) == 2
    assert "pip install matplotlib" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_unsuitable_problems():
    one, two = landscape_figures._instance_1d(), landscape_figures._instance_2d()
    entropy = one.replace(metric="cross-entropy")
    for draw, problem, message in (
        (plots.landscape_1d, two, "d = 1"),
        (plots.landscape_2d, one, "d = 2"),
        (plots.landscape_1d, one.replace(gamma=0.0), "gamma > 0"),
        (plots.landscape_2d, two.replace(reading="block"), "joint"),
        (plots.landscape_1d, entropy, "this figure is about the squared distance"),
        (plots.landscape_1d, cr.SoftmaxRegression(one.A, one.b), "SoftmaxRegression"),
    ):
        with pytest.raises(cr.InputError, match=message):
            draw(problem)
    with pytest.raises(cr.InputError, match="num_samples"):
        plots.curvature_spectrum(num_samples=1)
