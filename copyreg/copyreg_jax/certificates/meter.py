"""How often a proof has read A."""

from __future__ import annotations

import threading

import numpy as np

from copyreg_jax.checker.data import Csr, Dense, Instance

__all__ = ["Meter", "metered"]


class Meter:
    """Counts the rows that are read, by any thread."""

    def __init__(self, n: int) -> None:
        self._n, self._rows, self._lock = n, 0.0, threading.Lock()

    def add(self, rows: float) -> None:
        """Count so many rows."""
        with self._lock:
            self._rows += rows

    def since_last(self) -> float:
        """Reads of the whole of A since this was asked last, to a tenth."""
        with self._lock:
            rows, self._rows = self._rows, 0.0
        return round(rows / self._n, 1)


class _Dense(Dense):
    meter: Meter

    def flat(self, start: int, stop: int) -> np.ndarray:
        self.meter.add((stop - start) / self.shape[1])
        return super().flat(start, stop)


class _Csr(Csr):
    meter: Meter

    def part(self, start: int, stop: int) -> Csr:
        self.meter.add(stop - start)
        return super().part(start, stop)


def metered(data: Instance) -> tuple[Instance, Meter]:
    """The same instance with an A that counts."""
    meter = Meter(data.n)
    A = (_Csr if isinstance(data.A, Csr) else _Dense)(*data.A)
    A.meter = meter
    return data._replace(A=A), meter
