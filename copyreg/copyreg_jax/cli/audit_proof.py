"""``copyreg audit --certificate``: the any-decoder bound of some passages, proved."""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from copyreg_jax.cli.common import all_files, is_same, require_free, require_writable
from copyreg_jax.errors import InputError

if TYPE_CHECKING:
    from copyreg_jax.lm.leakage.passages import Passages
    from copyreg_jax.lm.leakage.teacher_forced import Suffixes

__all__ = ["Proof"]


class Proof:
    """The passages with the fewest bits of all works, and the certificate about them.

    Parameters
    ----------
    path : path or None
        File for the certificate; without one, nothing is proved.
    number : int
        Number of passages.
    slack : float
        How far the logits that are covered may be from the exact ones.

    Attributes
    ----------
    said : dict or None
        What the certificate says, once it is written: its file's ``name``, ``b`` and ``slack``, the
        number of ``passages`` of how many, and ``float32_error`` of the logits of the first.

    Examples
    --------
    >>> Proof(Path("proof.json"), number=4, slack=0.001).options()
    ' --certificate proof.json --certify-windows 4 --slack 0.001'
    >>> Proof(None, number=4, slack=0.001).options()  # nothing is proved
    ''
    """

    def __init__(self, path: Path | None, number: int, slack: float) -> None:
        self.path, self.number, self.slack = path, number, slack
        self._found: list[tuple[float, list[int]]] = []
        self._num_passages = 0
        self.said: dict[str, Any] | None = None

    def check(
        self, model: str, *, inputs: list[Path], outputs: list[Path | None], overwrite: bool
    ) -> None:
        """Refuse before the work what can't be proved or written."""
        if self.path is None:
            return
        from copyreg_jax.certificates.to_instance import input_errors
        from copyreg_jax.checker.weights import read_model
        from copyreg_jax.lm.leakage.any_decoder import MAX_SLACK

        if self.slack > MAX_SLACK:
            raise InputError(f"--slack is {self.slack}; give a number from 0 to 2^100")
        folder = _folder(model)
        if not folder.is_dir():
            raise InputError(
                f"--certificate needs a Hugging Face folder, and {model} is none; write one with "
                "copyreg_jax.lm.models.hugging_face.save_pretrained"
            )
        if any(other is not None and is_same(self.path, other) for other in outputs):
            raise InputError(f"--certificate: {self.path} is another output too; choose two files")
        read = [file for path in inputs for file in all_files(path)]
        require_free("--certificate", [self.path], read, overwrite=overwrite)
        require_writable(self.path.absolute().parent, f"--certificate {self.path}")
        with input_errors():
            read_model(folder)

    def keep(self, passages: Passages, found: Suffixes) -> None:
        """Remember the passages of one more work that may be among those with the fewest bits."""
        if self.path is None:
            return
        order = found.bits.argsort(kind="stable")[: self.number]
        some = zip(found.bits[order].tolist(), passages.rows(order).tolist(), strict=True)
        self._found = sorted([*self._found, *some], key=lambda one: one[0])[: self.number]
        self._num_passages += len(found.bits)

    def write(
        self,
        model: str,
        loaded: Any,
        prefix: int,
        show: Callable[[str], None],
        require_unchanged: Callable[[], None],
    ) -> str:
        """Prove the bound, write the certificate, and return a sentence that says what it says.

        The proof reads the files of the model again, so they have to be those of the audit still.
        """
        if self.path is None:
            return ""
        import numpy as np

        from copyreg_jax._pages import counted
        from copyreg_jax.checker.budget import MAX_TOKENS, Budget, duration
        from copyreg_jax.lm.leakage.any_decoder import certify_windows, logit_error

        windows, folder = np.array([tokens for _, tokens in self._found]), _folder(model)
        count = f"{len(windows):,} of {self._num_passages:,} passages"
        budget, begun = Budget(len(windows), windows[:, 1:].size), time.monotonic()
        show(f"proving the bits of {count}: {budget.said(0)}")
        certificate = certify_windows(
            folder, windows, prefix, slack=self.slack,
            progress=lambda done: show(f"proving the bits of {count}: {budget.said(done)}"),
        )  # fmt: skip
        took = time.monotonic() - begun
        error = logit_error(folder, loaded, windows[:1], prefix)
        require_unchanged()
        certificate.save(self.path)
        beyond_limit = budget.tokens > MAX_TOKENS
        beyond = "" if error <= self.slack else ", so --slack is too small for float32"
        self.said = {
            "name": self.path.name, "passages": len(windows), "of": self._num_passages,
            "b": certificate.b, "slack": self.slack, "float32_error": error,
        }  # fmt: skip
        return (
            f"proved for {count}, those with the fewest bits: no temperature, top-k, top-p or "
            f"min-p gives one of these suffixes a probability above "
            f"2^-{math.floor(10 * certificate.b) / 10:.1f}, on logits within {self.slack} of "
            f"the exact ones (float32 logits of the first are within {_up(error)} here{beyond}). "
            f"Proving {counted(budget.tokens, 'token')} took {duration(took)}; copyreg check takes "
            "as long"
            f"{', and needs --max-tokens ' + str(budget.tokens) if beyond_limit else ''}"
        )

    def options(self) -> str:
        """What a command needs besides, to prove the same."""
        if self.path is None:
            return ""
        options = ["--certificate", self.path.name, "--certify-windows", str(self.number)]
        return " " + shlex.join([*options, "--slack", str(self.slack)])


def _up(error: float) -> str:
    """Two digits that are no less than the bound.

    Examples
    --------
    >>> _up(1.41e-5), _up(2.0), _up(math.inf)
    ('1.5e-05', '2.0e+00', 'inf')
    """
    near = f"{error:.1e}"
    return near if float(near) >= error else f"{error + 10.0 ** (int(near[-3:]) - 1):.1e}"


def _folder(model: str) -> Path:
    from copyreg_jax.lm.records import MODEL

    path = Path(model)
    return path / MODEL if (path / MODEL).is_dir() else path
