"""Parts of a batch in two threads, however many cores there are."""

import threading
import time

import jax
import pytest

from copyreg_jax.solvers import side_by_side
from copyreg_jax.solvers.side_by_side import run_side_by_side


@pytest.fixture(autouse=True)
def two_cores(monkeypatch):
    monkeypatch.setattr(side_by_side, "_num_cores", lambda: 2)


def part(k, steps=5, size=10):
    """A part that gets one fifth of its problems done in a step; returns where it ran, and when."""

    def run(stop):
        for step in range(steps):
            if stop(size * step // steps):
                return k, threading.get_ident(), step
            time.sleep(0.001)
        return k, threading.get_ident(), steps

    return run


def test_results_are_in_order_and_come_from_two_threads():
    both = threading.Barrier(2)  # each waits for the other: one thread alone would not get through

    def run(k):
        return lambda stop: (k, both.wait(timeout=60), threading.get_ident())

    found = run_side_by_side([run(k) for k in range(4)], [10] * 4, None)
    assert [k for k, *_ in found] == [0, 1, 2, 3]
    assert threading.get_ident() not in {thread for *_, thread in found}


def test_progress_comes_to_the_thread_of_the_caller():
    seen = []

    def watch(done):
        seen.append((done, threading.get_ident()))
        return False

    run_side_by_side([part(k) for k in range(3)], [10] * 3, watch)
    counts = [done for done, _ in seen]
    assert counts == sorted(counts)
    assert len(counts) == 15
    assert counts[0] == 0
    assert counts[-1] in (26, 28)  # one or two parts done, and the last step of the others
    assert {thread for _, thread in seen} == {threading.get_ident()}


def test_nothing_is_asked_after_it_said_stop():
    seen = []
    found = run_side_by_side(
        [part(k) for k in range(4)], [10] * 4, lambda done: seen.append(done) or len(seen) == 3
    )
    assert len(seen) == 3
    assert [steps for *_, steps in found][2:] == [0, 0]
    assert max(steps for *_, steps in found) <= 3


@pytest.mark.parametrize("error", [ValueError("a slip"), KeyboardInterrupt()])
def test_an_error_of_the_caller_ends_all_parts(error):
    ended = []
    both = threading.Barrier(2)  # a part that has not begun would be left out, and not end

    def run(stop):
        both.wait(timeout=60)
        while not stop(0):
            time.sleep(0.001)
        ended.append(1)

    def watch(done):
        raise error

    with pytest.raises(type(error)):
        run_side_by_side([run] * 4, [1] * 4, watch)
    assert len(ended) == 2


@pytest.mark.parametrize("watch", [None, lambda done: False])
def test_an_error_of_a_part_ends_the_others(watch):
    ended = []

    def fails(stop):
        stop(0)
        raise ValueError("a slip")

    def runs(stop):
        while not stop(0):
            time.sleep(0.001)
        ended.append(1)

    with pytest.raises(ValueError, match="a slip"):
        run_side_by_side([runs, fails], [1, 1], watch)
    assert ended == [1]


def test_settings_of_the_thread_hold_for_all_parts():
    """Other threads would not see them; so the parts run in this one, one after the other."""

    def run(stop):
        return jax.config.jax_enable_x64, threading.get_ident()

    with jax.enable_x64(False):
        found = run_side_by_side([run, run], [1, 1], None)
    assert found == [(False, threading.get_ident())] * 2
    stops = []
    with jax.enable_x64(False):
        found = run_side_by_side(
            [part(0), part(1)], [10, 10], lambda done: stops.append(done) or done >= 10
        )
    assert [steps for *_, steps in found] == [5, 0]
    assert stops == [0, 2, 4, 6, 8, 10]
