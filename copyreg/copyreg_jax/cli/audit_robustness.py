"""``copyreg audit RUN ... --relearn STEPS --quantize BITS``: what comes back of a run's text."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from copyreg_jax._files import jsonable
from copyreg_jax._pages import counted
from copyreg_jax.cli.common import output
from copyreg_jax.errors import InputError, TrainingError

if TYPE_CHECKING:
    from copyreg_jax.lm.corpus.rows import Rows
    from copyreg_jax.lm.leakage.relearning import Relearning
    from copyreg_jax.lm.leakage.report import Report
    from copyreg_jax.lm.leakage.robustness import Changed, Measures, Scores
    from copyreg_jax.lm.records import Flags

__all__ = ["Changes"]

_TEXTS = {"unprotected": "unprotected text", "held-out": "other text of the same source"}

_SHORT = {"unprotected": "unprotected", "held-out": "same-source"}


class Changes:
    """The changes that are asked for, and what each run makes of its text after them."""

    def __init__(
        self, folder: Path, flags: Flags, relearn: int | None, bits: int | None, seed: int
    ) -> None:
        from copyreg_jax.lm.leakage.relearning import plan_relearning
        from copyreg_jax.lm.models.quantization import check_bits

        self._steps, self._bits = relearn, bits
        self._relearning: Relearning | None = None
        self._found: dict[str, Changed] = {}
        self._without: list[str] = []
        if bits is not None:
            check_bits(bits)
        if relearn is not None:
            self._relearning = plan_relearning(folder, flags, relearn, seed=seed)

    def measure(
        self,
        name: str,
        model: Any,
        rows: Rows,
        before: Report,
        audit: Callable[[Any], Report],
        progress: Callable[[str], None],
    ) -> None:
        """Change a model and measure it again, if that is asked for; its folder stays as it is."""
        from copyreg_jax.lm.leakage.robustness import change
        from copyreg_jax.lm.records import is_left_out

        if self._relearning is None and self._bits is None:
            return
        try:
            self._found[name] = change(
                model, rows, before, audit, relearning=self._relearning, bits=self._bits,
                progress=lambda stage: progress(f"{name}: {stage}"),
            )  # fmt: skip
        except TrainingError as error:
            raise InputError(f"{name} can't be trained on other text: {error}") from None
        if is_left_out(name):
            self._without.append(name)

    def _scores(self, name: str) -> tuple[Scores, Changed | None]:
        """The scores of a model, and the one run without the text that it is compared with."""
        from copyreg_jax.lm.leakage.robustness import score

        comparable = len(self._without) == 1 and name not in self._without
        without = self._found[self._without[0]] if comparable else None
        return score(self._found[name], without), without

    def as_json(self) -> dict[str, dict[str, Any]]:
        """Measures and scores by the names of the models; None is undefined."""
        from copyreg_jax.lm.models.quantization import FORMATS

        plan, content = self._relearning, {}
        if plan is not None:
            content["relearning"] = dataclasses.asdict(plan.settings) | {
                "updates": self._steps,
                "documents": {kind: int(chosen.sum()) for kind, chosen in plan.texts.items()},
            }
        if self._bits is not None:
            content["quantization"] = {"bits": self._bits, "format": FORMATS[self._bits]}
        return {
            name: content | jsonable(found) | self._scores(name)[0].as_json()
            for name, found in self._found.items()
        }

    def show(self, name: str) -> None:
        """Print what came back of a model's protected text, in a table and in words."""
        if name not in self._found:
            return
        found, (scores, without) = self._found[name], self._scores(name)
        before = found.before["protected"]
        _row("protected text", ("nats/token", "nats/suffix", "p >= 0.001", "greedy"))
        _row("  as it is", before)
        if found.quantized is not None and scores.quantization is not None:
            _row(f"  weights of {self._bits} bits", found.quantized["protected"])
            _row("    Q", scores.quantization)
        for kind, groups in found.relearned.items():
            _row(
                f"  {counted(self._steps or 0, 'step')} on {_SHORT[kind]} text", groups["protected"]
            )
            if without is not None:
                _row("    R", scores.relearning[kind])
            if without is not None and kind in scores.both:
                _row("    harmonic mean of R and Q", scores.both[kind])
        never = {} if without is None else self._in_words(without)
        for what, after in self._in_words(found).items():
            said = (
                f"{what} the protected loss goes {_from_to('nats', before, after)} nats per token, "
                f"and the share extracted {_from_to('extracted', before, after)}"
            )
            if without is not None:
                both = without.before["protected"], never[what]
                said += (
                    f"; of a model that never saw the text, {_from_to('nats', *both)} nats, and "
                    f"{_from_to('extracted', *both)}"
                )
            output.print(f"  {said}", markup=False, soft_wrap=True)
        if self._relearning is not None:
            for kind in _TEXTS.keys() - found.relearned.keys():
                output.print(f"  there is no {_TEXTS[kind]} to train on", markup=False)
            if len(self._without) != 1:
                output.print("  R needs just one run with --leave-out among these", markup=False)

    def _in_words(self, found: Changed) -> dict[str, Measures]:
        """The measures of protected text after each change, by what was done."""
        parts = {
            f"after {counted(self._steps or 0, 'step')} on {_TEXTS[kind]}": groups["protected"]
            for kind, groups in found.relearned.items()
        }
        if found.quantized is not None:
            parts[f"with weights of {self._bits} bits"] = found.quantized["protected"]
        return parts


def _from_to(field: str, before: Measures, after: Measures) -> str:
    return f"from {getattr(before, field):.3g} to {getattr(after, field):.3g}"


def _row(label: str, cells: Any) -> None:
    """Print a line of the table."""
    shown = [cell if isinstance(cell, str) else _number(cell) for cell in cells]
    line = f"  {label:36}" + "".join(f"{cell:>13}" for cell in shown)
    output.print(line, markup=False, soft_wrap=True)


def _number(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.4g}"
