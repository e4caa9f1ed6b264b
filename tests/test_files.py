"""What the package's files have in common."""

import json
import math
from typing import NamedTuple

import pytest

from copyreg_jax._files import jsonable, unreadable


class Pair(NamedTuple):
    one: float
    two: object


def test_json_has_neither_nan_nor_infinities():
    content = {"a": [math.nan, (1, -math.inf)], "b": Pair(math.inf, Pair(0.5, "text"))}
    plain = {"a": [None, [1, None]], "b": {"one": None, "two": {"one": 0.5, "two": "text"}}}
    assert jsonable(content) == plain
    assert json.loads(json.dumps(jsonable(content), allow_nan=False)) == plain


@pytest.mark.parametrize(
    ("error", "reason"),
    [(OSError(2, "No such file"), "No such file"), (ValueError("a null byte"), "a null byte"),
     (OSError("odd"), "odd")],
)  # fmt: skip
def test_what_cannot_be_read_is_said_with_the_reason(error, reason):
    assert str(unreadable("x.npz", error)) == f"can't read x.npz: {reason}"
