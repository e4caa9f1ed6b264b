"""The picture of a run shows what its metrics say."""

import json

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from copyreg_jax.errors import InputError
from copyreg_jax.lm import curves

NAMES = ("step", "unprotected", "running_protected", "cross_entropy", "weight", "gamma")


def write(path, table):
    lines = [
        json.dumps({n: None if np.isnan(x) else x for n, x in zip(NAMES, row, strict=True)})
        for row in table
    ]
    path.write_text("".join(line + "\n" for line in lines))
    return path


@pytest.mark.parametrize("num_steps", [1, 399, 400, 401, 1003])
def test_lines_are_means_of_stretches(num_steps, tmp_path):
    rng = np.random.default_rng(num_steps)
    table = rng.uniform(1, 5, (num_steps, 6))
    table[rng.uniform(size=table.shape) < 0.3] = np.nan  # batches without such tokens
    table[:, 0] = np.arange(1, num_steps + 1)
    figure = curves.plot_run(write(tmp_path / "metrics.jsonl", table), target_loss=4.5)
    losses, weights = figure.axes
    size = -(-num_steps // 400)
    lines = {line.get_label(): line for axis in (losses, weights) for line in axis.get_lines()}
    labels = ["unprotected", "protected (running)", "all of a batch", "weight of a token", "gamma"]
    for column, label in enumerate(labels, 1):
        parts = [table[k : k + size, column] for k in range(0, num_steps, size)]
        means = [np.mean(p[~np.isnan(p)]) if (~np.isnan(p)).any() else np.nan for p in parts]
        assert len(means) <= 400
        np.testing.assert_allclose(lines[label].get_ydata(), means)
        middles = [np.mean(table[k : k + size, 0]) for k in range(0, num_steps, size)]
        np.testing.assert_allclose(lines[label].get_xdata(), middles)
    assert set(lines["target"].get_ydata()) == {4.5}


def test_the_file_is_a_picture_or_not_there(tmp_path):
    metrics = write(tmp_path / "metrics.jsonl", np.ones((3, 6)))
    curves.save_plot(metrics, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    for content, message in [("", "has no steps"), ("{}\n", "can be read"), ("{\n", "can be read")]:
        metrics.write_text(content)
        with pytest.raises(InputError, match=message):
            curves.save_plot(metrics, tmp_path / "b.png")
    with pytest.raises(InputError, match="can be read"):
        curves.save_plot(tmp_path / "none", tmp_path / "b.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "metrics.jsonl"]
