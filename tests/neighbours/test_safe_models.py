"""Who trains on what: nothing of an owner is in a model that is called safe."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import copyreg_jax as cr
from copyreg_jax.neighbours.safe_models import leave_one_out, safe_shards, sharded
from tests.support.registry import cases

DOCUMENTS = st.lists(
    st.tuples(st.sampled_from([None, "a", "b", "c", "d"]), st.integers(0, 12)),
    min_size=1,
    max_size=20,
)


def content(owner, owners, copies):
    """The clusters of copies in which an owner has a document, by the definition."""
    return {c for o, c in zip(owners, copies, strict=True) if o == owner}


@cases(300)
@given(DOCUMENTS, st.integers(2, 4))
def test_no_safe_model_has_seen_its_owner(documents, num_shards):
    owners, copies = map(list, zip(*documents, strict=True))
    for call in (leave_one_out, lambda *args: sharded(args[0], num_shards, args[1])):
        try:
            found = call(owners, copies)
        except cr.InputError:
            continue
        if isinstance(found, dict):
            sets = {owner: [np.flatnonzero(mask)] for owner, mask in found.items()}
        else:
            assert set(found.shard) == set(range(num_shards))
            sets = {o: [np.flatnonzero(found.shard == s) for s in safe]
                    for o, safe in found.safe.items()}  # fmt: skip
            # Copies and an owner's documents are together, so all other shards are safe.
            assert all(len(safe) == num_shards - 1 for safe in found.safe.values())
        assert set(sets) == set(owners) - {None}
        for owner, trained in sets.items():
            theirs = content(owner, owners, copies)
            for documents_seen in trained:
                assert documents_seen.size
                seen = {copies[i] for i in documents_seen}
                assert not seen & theirs
                assert all(owners[i] != owner for i in documents_seen)


def test_shards_are_balanced_by_size():
    found = sharded(list("abcdef"), 2, sizes=[6, 5, 4, 3, 2, 2])
    totals = np.bincount(found.shard, [6, 5, 4, 3, 2, 2])
    assert totals.tolist() == [11, 11]


def test_missing_labels_are_nobody():
    """NaN is what tables have for no owner; it is not one owner for each of them."""
    masks = leave_one_out(["Ann", float("nan"), float("nan"), None])
    assert list(masks) == ["Ann"]
    with pytest.raises(cr.InputError, match="give texts or numbers"):
        leave_one_out([["Ann"], None])


@pytest.mark.parametrize(
    "flags",
    [np.array([True, False, False]), [np.True_, np.False_, np.False_], [True, False, None]],
)
def test_flags_are_one_owner_and_false_owns_nothing(flags):
    assert list(leave_one_out(flags)) == [True]
    assert leave_one_out(flags)[True].tolist() == [False, True, True]
    assert leave_one_out(flags, ["x", "x", "y"])[True].tolist() == [False, False, True]
    assert safe_shards(flags, [0, 1, 1]) == {True: (1,)}


def test_m_copies_need_one_shard_more():
    """A work in both shards; with a third it is safe there."""
    owners, copies = ["a", None, None], [7, 7, 8]
    with pytest.raises(cr.InputError, match=r"in all 2 shards.*take 3 shards"):
        safe_shards(owners, [0, 1, 1], copies)
    assert safe_shards(owners, [0, 1, 2], copies) == {"a": (2,)}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: leave_one_out([None, None]), "no document has an owner"),
        (lambda: leave_one_out(["a", "a"]), "no document is left"),
        (lambda: leave_one_out(["a", None], copies=[1]), "copies has shape"),
        (lambda: sharded(["a", "a", "a"]), "to 1 groups"),
        (lambda: sharded(["a", "b"], 2, copies=[0, 0]), r"need m \+ 1 shards"),
        (lambda: sharded(["a", "b"], 1), "num_shards is 1"),
        (lambda: sharded(["a", "b"], sizes=[1.0, np.nan]), "sizes"),
        (lambda: safe_shards(["a", "b"], [0.0, 1.0]), "whole number"),
        (lambda: safe_shards(["a", "b"], [0, 3], num_shards=2), "at least 4"),
        (lambda: safe_shards(["a", "b"], [0, 1], num_shards=2.5), "num_shards is 2.5"),
        (lambda: leave_one_out(["a", None], copies=[None, 1]), "one label for each document"),
        (lambda: leave_one_out(["a", None], copies=[None, None]), "one label for each document"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(cr.InputError, match=message):
        call()
