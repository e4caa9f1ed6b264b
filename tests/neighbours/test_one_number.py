"""K(C) is one number: the NAF exponent, the code length saved, and the unit of royalties."""

import numpy as np
import pytest
import scipy.special

from copyreg_jax.neighbours.codelength import corpus_ledger
from copyreg_jax.neighbours.distributions import delta_max
from copyreg_jax.neighbours.ledger import ledger
from copyreg_jax.neighbours.retraining import Retraining
from copyreg_jax.neighbours.royalty import royalties
from tests.support.registry import METRICS, random_problem


@pytest.mark.quick(1)
@pytest.mark.parametrize("metric", METRICS)
def test_the_rooms_agree_on_K(metric):
    """Each row is a document; its owner is "C" if it is protected. No protection, so gamma is 0."""
    problem = random_problem(2, 24, 3, w=0.5, gamma=0.0, metric=metric)
    found = ledger(problem)
    proved = np.mean(found.rows, axis=1)
    log_p, log_safe = (
        scipy.special.log_softmax(np.asarray(problem.A) @ kept.x)
        for kept in (found.model, found.safe)
    )
    by_code = corpus_ledger(range(problem.n), log_p[:, None], log_safe[:, None])
    owners = ["C" if marked else None for marked in np.asarray(problem.protected)]
    texts = np.eye(problem.n)[:4]  # rows are alike: four will do
    shares = [royalties(Retraining(problem, owners, text).table()) for text in texts]
    # 1e-9 bits is asked for: the proved intervals are narrower, the solver's points nearer.
    assert np.abs(by_code.k_bits - proved[by_code.names]).max() < 1e-9
    assert np.abs([share.values["C"].lower for share in shares] - proved[:4]).max() < 1e-9
    assert abs(delta_max(log_p, log_safe) - np.mean(found.naf_bits)) < 1e-9
