"""The inputs that fuzzing found interesting (fuzz_check.py), tried again."""

import pytest

import copyreg_jax as cr
from tests.checker.fuzz_check import BASE, CORPUS, try_one


def test_the_base_is_certified():
    assert cr.check(*BASE).verdict is cr.Verdict.CERTIFIED
    assert try_one(b"\x01") is cr.Verdict.CERTIFIED
    assert len(CORPUS) > 100


@pytest.mark.parametrize("content", CORPUS, ids=lambda content: content[:8].hex())
def test_corpus(content):
    try_one(content)
