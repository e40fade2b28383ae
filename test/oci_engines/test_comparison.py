"""The comparison itself: what it lets pass, and what not."""

import comparison
import pytest
from comparison import Comparison

ROWS = """| one | table |
|---|---|
| of | others |

| engine | test | fact | runc | bulkhead | reason |
|---|---|---|---|---|---|
| docker | test_a | code | `1` | `2` | a reason \\| two |
| * | test_a | any | `x` | * | another |
| podman | test_b | * | works | fails | all of it |

| docker | test_c | code | 1 | 2 | not of the table |
"""


def compared(runtime="bulkhead", engine="docker", test="test_a"):
    return Comparison(engine, runtime, test, "case",
                      {("case", "code"): 1, ("case", "any"): "x"}, comparison.read(ROWS))


def test_rows():
    rows = comparison.read(ROWS)
    assert [row.test for row in rows] == ["test_a", "test_a", "test_b"]
    assert (rows[0].runc, rows[0].bulkhead, rows[0].reason) == ("1", "2", "a reason | two")
    assert comparison.read(comparison.DOCUMENT.read_text()) is not None


def test_row_with_too_few_cells():
    with pytest.raises(ValueError, match="line 7"):
        comparison.read(ROWS.replace("| `1` ", ""))


def test_what_runc_must_give():
    same = compared("runc")
    same("new", 5, 5)
    with pytest.raises(AssertionError, match="new: 6, not 5"):
        same("new", 6, 5)


def test_agreement():
    same = compared(engine="podman", test="test_c")
    same("code", 1, 3)  # what runc did counts, not what was expected of it
    same("never seen with runc", 4)
    same.check()
    assert not same.used


def test_difference_that_is_not_written_down():
    with pytest.raises(AssertionError, match="no such row"):
        compared(engine="podman")("code", 2)


def test_difference_that_is_written_down():
    same = compared()
    same("code", 2)
    same("any", "whatever")
    same.check()
    assert len(same.used) == 2


def test_another_difference_than_the_one_written_down():
    with pytest.raises(AssertionError, match="says '2'"):
        compared()("code", 3)


def test_row_that_is_not_true_any_more():
    same = compared()
    same("code", 1)
    same("any", "y")
    with pytest.raises(AssertionError, match="no difference any more: docker, test_a, code"):
        same.check()


def test_whole_test():
    assert compared(engine="podman", test="test_b").whole().reason == "all of it"
    assert compared(test="test_b").whole() is None
