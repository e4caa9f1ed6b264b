"""What is nearly written of held-out text stands beside a work by the same rule."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

pytest.importorskip("flax")
pytest.importorskip("tokenizers")

from copyreg_jax.errors import InputError
from copyreg_jax.lm.corpus.tokenizer import train_tokenizer
from copyreg_jax.lm.leakage import searching
from copyreg_jax.lm.leakage.preset import Preset
from copyreg_jax.lm.leakage.searching import search_works
from copyreg_jax.lm.leakage.teacher_forced import Suffixes, read_suffixes
from copyreg_jax.lm.leakage.works import audit_works
from tests.support.mutants import planted
from tests.support.small_models import Bigram

OPTIONS = {
    "prefix": 2, "top_k": None, "budget": 10, "number": 4, "distance": 1, "width": 4,
}  # fmt: skip


def numbered(sizes):
    """Windows of some texts, each with a number of its own, and as many numbers known of them."""
    windows, found, first = {}, {}, 0
    for name, size in sizes.items():
        own = np.arange(first, first + size)
        windows[name] = np.tile(own[:, None], (1, 4)).astype(np.int32)
        found[name] = Suffixes(*[own.astype(float)] * 6)
        first += size
    return windows, found


def check_parts(works, held_out):
    """By work, which of all held-out passages are searched beside it, in the order of texts."""
    windows, found = numbered({f"w{k}": size for k, size in enumerate(works)})
    theirs = numbered({f"h{k}": size for k, size in enumerate(held_out)})
    calls, names = [], ([*windows], [*theirs[0]])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            searching, "search_near", lambda _, *own, **more: calls.append((*own, more["label"]))
        )
        search_works(None, *names, windows | theirs[0], found | theirs[1])
    total, counted = sum(held_out), np.zeros(sum(held_out), int)
    whose = [(f"h{k}", i) for k, size in enumerate(held_out) for i in range(size)]
    for size, (rows, known, _), (tokens, suffixes, label) in zip(
        works, calls[::2], calls[1::2], strict=True
    ):
        assert len(rows) == size
        np.testing.assert_array_equal(known.log_p, rows[:, 0])
        chosen = tokens[:, 0]
        assert len(set(chosen.tolist())) == len(chosen) == min(size, total)
        for part in suffixes:
            np.testing.assert_array_equal(part, chosen)
        for k, passage in enumerate(chosen.tolist()):
            name, number = whose[passage]
            assert label(k) == f"passage {number} of {name}"
        counted[chosen] += 1
        gaps = (np.diff(np.sort(chosen)) > 1).sum()
        assert gaps <= 1  # a run, or its end and its beginning
    # One work after the other: none is used twice before all are used.
    if max(works) <= total:
        assert counted.max() - counted.min() <= 1


SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=4)


@given(works=SIZES, held_out=SIZES)
def test_a_work_is_beside_as_many_passages_as_there_are(works, held_out):
    check_parts(works, held_out)


@pytest.mark.parametrize(
    ("place", "old", "new"),
    [
        ("_run_of", "min(number, len(owner))", "len(owner)"),
        ("_run_of", "first + np.arange(min(number, len(owner)))",
         "np.arange(min(number, len(owner)))"),
        ("_run_of", "place[owner[place] == k]", "place[owner[place] <= k]"),
        ("_run_of", "part[chosen]", "part[: len(chosen)]"),
        ("search_works", "first += len(windows[name])", "first += 1"),
    ],
)  # fmt: skip
def test_planted_bugs_are_found(place, old, new):
    with planted(f"lm.leakage.searching:{place}", old, new), pytest.raises(AssertionError):
        check_parts([3, 4], [2, 5])


def test_equal_passages_are_searched_alike():
    rng = np.random.default_rng(0)
    model = Bigram(rng.normal(scale=2, size=(7, 7)))
    tokens = rng.integers(0, 7, (9, 6)).astype(np.int32)
    windows = {"work": tokens, "one": tokens[:4], "two": tokens[4:]}
    found = {name: read_suffixes(model, part, prefix=2) for name, part in windows.items()}
    own, beside = search_works(model, ["work"], ["one", "two"], windows, found, **OPTIONS)["work"]
    np.testing.assert_equal(beside, own)
    assert own.num_searched == 4
    alone = search_works(model, ["work"], [], windows, found, **OPTIONS)
    np.testing.assert_equal(alone, {"work": (own, None)})
    never = search_works(model, ["work"], ["one"], windows, found, **OPTIONS | {"number": 0})
    assert never == {"work": (None, None)}
    bad = Bigram(np.full((7, 7), np.nan))
    last = {"work": windows["two"], "one": windows["one"]}
    with pytest.raises(InputError, match=r"near passage [0-9] of work a probability of NaN"):
        search_works(bad, ["work"], ["one"], last, found | {"work": found["two"]}, **OPTIONS)


LETTERS = "abcdefghijklmnopqrstuvwxyz"


def test_a_work_that_is_nearly_known_stands_out_of_held_out_text():
    """The model knows the alphabet, but it writes a capital B for b in all cases but one in 1e6."""
    tokenizer, shown = train_tokenizer([], vocab_size=257), []
    table = np.zeros((257, 257))
    ids = {letter: tokenizer.token_to_id(letter) for letter in LETTERS + "B"}
    for one, other in zip(LETTERS, LETTERS[1:] + "a", strict=True):
        table[ids[one], ids[other]] = 30
    table[ids["a"], ids["B"]], table[ids["B"], ids["c"]] = 44, 30
    rng = np.random.default_rng(1)
    held_out = {f"h{k}": "".join(rng.permutation(list(LETTERS * 9))) for k in range(3)}
    preset = Preset(
        prefix=4, suffix=20, stride=1, near=5, distance=1, width=3, outputs=0, budget=1000
    )  # fmt: skip
    work = LETTERS * 40  # longer than all held-out text
    audited = [
        audit_works(Bigram(table), tokenizer, {"work": work}, texts, preset,
                    progress=lambda name, share: shown.append((name, share)))
        for texts in (held_out, held_out | {"again": held_out["h0"] + "!"}, {})
    ]  # fmt: skip
    for (one,), others in audited[:2]:
        assert all(other.near is None for other in others)
        assert one.near.num_searched == one.near_held_out.num_searched == 5
        assert one.near.log10_samples == 0
        assert one.near_held_out.log10_samples > 9
        assert one.near.num_passages == one.num_passages
        # The near-duplicate is measured, and is no further text to compare with.
        distinct = [other.num_passages for other in others if other.name != "again"]
        assert one.near_held_out.num_passages == min(one.num_passages, sum(distinct))
        assert one.near_held_out.extractable == 0 < one.near.extractable
    assert audited[2][0][0].near_held_out is None
    assert ("what is near work", 1.0) in shown
    assert ("held-out text beside work", 1.0) in shown
