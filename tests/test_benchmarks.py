"""What the benchmarks bring themselves and their numbers depend on."""

import numpy as np
import pytest

pytest.importorskip("flax.nnx")
pytest.importorskip("tokenizers")

from benchmarks import protection

from copyreg_jax.lm.corpus import tokenizer
from copyreg_jax.lm.corpus.rows import make_rows


def rows_of(texts, length):
    return make_rows(tokenizer.train_tokenizer([], vocab_size=257), texts, length)


@pytest.mark.parametrize("k", [2, 3, 8])
def test_goldfish_skips_every_kth_token_by_what_is_before_it(k):
    rng = np.random.default_rng(0)
    passage = "".join(rng.choice(list("abcdefgh "), 1200))
    rows = rows_of([passage, passage, "xyz " + passage, passage], 400)
    chosen = rows.document < 3
    mask = protection.goldfish_mask(rows, chosen, k)
    assert (mask[rows.document == 3] == rows.mask[rows.document == 3]).all()
    skipped = rows.mask & ~mask
    share = skipped[rows.document == 0].sum() / 1201
    assert abs(share - 1 / k) < 5 * np.sqrt(1 / k / 1201)
    # A copy is skipped alike; so is a copy at another place, after the first tokens of a row.
    assert (skipped[rows.document == 0] == skipped[rows.document == 1]).all()
    first, moved = (skipped[rows.document == i][0] for i in (0, 2))
    assert (first[protection.CONTEXT : -4] == moved[protection.CONTEXT + 4 :]).all()
    assert not (mask & ~rows.mask).any()


def test_documents_for_unlearning_are_whole():
    texts = ["a" * 30, "b" * 3, "c" * 11, "d" * 50]
    rows = rows_of(texts, 8)
    tokens, mask = protection.whole_documents(rows, np.array([True, False, True, False]))
    assert tokens.shape == (2, 4, 9)
    assert mask.sum(axis=(1, 2)).tolist() == [31, 12]
    assert (tokens[0, :, 1:][mask[0]] == rows.tokens[:4, 1:][rows.mask[:4]]).all()
