"""A certificate, as its maker hands it out."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from copyreg_jax._files import write_whole
from copyreg_jax._pages import card
from copyreg_jax.certificates import words
from copyreg_jax.checker import format
from copyreg_jax.checker.format import Interval, Local
from copyreg_jax.checker.verdicts import Verdict, VoidError
from copyreg_jax.errors import InputError

__all__ = ["Certificate", "ProvedDocument"]


@dataclasses.dataclass(frozen=True, eq=False)
class ProvedDocument:
    """A file of proved statements, as its maker hands it out; each format has a class of its own.

    Attributes
    ----------
    document : dict
        The content of the file.
    """

    document: dict[str, Any]

    @staticmethod
    def parse(document: dict[str, Any]) -> Any:
        """The statements of a document; `VoidError` if it is not of this format."""
        raise NotImplementedError

    def save(self, path: str | Path) -> None:
        """Write the certificate as JSON, whole or not at all; `InputError` if it can't."""
        write_whole(path, format.canonical(self.document))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a file without checking its claims; ``copyreg check`` does that.

        Raises
        ------
        InputError
            Not a certificate of this format, or a damaged one.
        """
        try:
            return cls(format.read_statements(path, cls.parse).document)
        except VoidError as error:
            raise InputError(str(error)) from None


@dataclasses.dataclass(frozen=True, eq=False)
class Certificate(ProvedDocument):
    """Proved statements about one point x of one instance; made by `certify`.

    Every number is rounded outward from enclosures, so each statement holds for the exact
    real-number objective at the exact doubles x.

    Attributes
    ----------
    document : dict
        The content of the file, described in docs/reference/certificate-format.md.
    given_up : dict of str
        Why a claim, local or global, is not made: what stands in its way, and what would help. No
        part of the file: empty for a certificate that was loaded.
    reads : dict of str
        How often the proof of each claim, point, local and global, has read A; likewise.

    Examples
    --------
    >>> import copyreg_jax as cr
    >>> problem = cr.CopyrightRegression([[1.0], [0.0], [-1.0]], [0.7, 0.2, 0.1], protected=1)
    >>> cert = cr.certify(problem, cr.solve(problem).x)
    >>> cert.verdict.name, cert.margin.lower > 0, cert.local.margin.lower > 0
    ('CERTIFIED', True, True)
    """

    given_up: Mapping[str, str] = dataclasses.field(default_factory=dict)
    reads: Mapping[str, float] = dataclasses.field(default_factory=dict)

    parse = staticmethod(format.parse)

    @functools.cached_property
    def _statements(self) -> format.Statements:
        return format.parse(self.document)

    @property
    def margin(self) -> Interval:
        """Enclosure of ``ell_1/n1 - ell_2/n2`` at x; tau may be up to its lower end."""
        return self._statements.bounds["margin"]

    @property
    def ell_1(self) -> Interval:
        """Enclosure of the protected loss at x."""
        return self._statements.bounds["ell_1"]

    @property
    def ell_2(self) -> Interval:
        """Enclosure of the other rows' loss at x."""
        return self._statements.bounds["ell_2"]

    @property
    def value(self) -> Interval:
        """Enclosure of L at x."""
        return self._statements.bounds["value"]

    @property
    def protected_mass(self) -> Interval:
        """Enclosure of the sum of f over the protected rows at x."""
        return self._statements.bounds["protected_mass"]

    @property
    def target_mass(self) -> Interval:
        """Enclosure of the sum of b over the protected rows."""
        return self._statements.bounds["target_mass"]

    @property
    def direction(self) -> str:
        """Protected mass of f against that of b: suppressed, amplified, or undecided."""
        return self._statements.direction

    @property
    def tau(self) -> float | None:
        """The tau asked for, or None for "some tau > 0"."""
        return self._statements.point.tau

    @property
    def verdict(self) -> Verdict:
        """Whether x is tau-copyright-protected (Definition 1)."""
        return self._statements.point.verdict

    @property
    def level_set_tau(self) -> float | None:
        """Every x' with L(x') <= value.upper, every global minimizer among them, has this margin.

        None where nothing is claimed, because L is infinite at x or too large for a float.
        """
        claim = self._statements.level_set
        return None if claim is None else claim.tau

    @property
    def local(self) -> Local | None:
        """A minimizer near x, and what holds there; None where none could be proved."""
        return self._statements.local

    @property
    def is_global(self) -> bool:
        """Whether L is proved to have one global minimizer, which is then the local one.

        No other stationary point has an L as low as x; a local minimizer above is not excluded.
        """
        return self._statements.global_ is not None

    @property
    def paper_tau(self) -> Interval | None:
        """tau_c = sqrt(2 gamma)/n1 - eps_2/n2 of Theorem 16; None if eps_2 fits in no float."""
        paper = self._statements.paper
        return None if paper is None else paper.tau_c

    @property
    def paper_verdict(self) -> Verdict:
        """Whether the conclusion of Theorem 16, margin >= tau_c, holds at x."""
        paper = self._statements.paper
        return Verdict.UNDECIDED if paper is None else paper.verdict

    @property
    def headline(self) -> str:
        """The verdict and the direction in one sentence, as ``copyreg solve`` prints it last."""
        return words.headline(self._statements)

    def __repr__(self) -> str:
        return f"<Certificate: {self.headline}>"

    def _repr_html_(self) -> str:
        """A small table for notebooks, under the verdict and the direction."""
        below, above, near = words.below, words.above, self.local
        rows = {
            "margin ell_1/n1 - ell_2/n2": (
                f"in [{below(self.margin.lower)}, {above(self.margin.upper)}]"
            ),
            "wherever L is at most this": (
                "nothing is proved"
                if self.level_set_tau is None
                else f"margin >= {below(self.level_set_tau)}"
            ),
            "minimizer": (
                "nothing is proved"
                if near is None
                else f"within {above(near.distance, 3)} of x, alone within {below(near.radius, 3)}"
                + ("; the only global one" if self.is_global else "")
            ),
        }
        return card(self.headline, rows, " ".join(words.remedy(self.direction)))

    def explain(self) -> str:
        """All of it in words; the first line gives the verdict and the direction.

        What was proved, for which data, under which hypotheses; what was not, and what that would
        need.
        """
        return words.explain(self._statements, self.given_up, self.reads)
