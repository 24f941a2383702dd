"""Intervals, paired tests and Holm's correction against hand-worked values and SciPy."""

import warnings

import pytest
from scipy import stats

from experiments.statistics import holm, paired_difference, summary


def test_summary_of_hand_worked_values():
    # Deviations from 3 are -2 -1 0 1 2, squares sum to 10, s = sqrt(10 / 4); the table's t(0.975, 4) is 2.776.
    got = summary([1, 2, 3, 4, 5])
    assert got["mean"] == 3
    assert got["std"] == pytest.approx(1.5811388, rel=1e-7)
    half = 2.776445 * 1.5811388 / 5**0.5
    assert got["ci95"] == pytest.approx([3 - half, 3 + half], rel=1e-6)
    assert (got["n"], got["values"]) == (5, [1.0, 2.0, 3.0, 4.0, 5.0])


def test_one_value_has_no_spread_and_none_is_an_error():
    assert summary([76.1]) == {"mean": 76.1, "std": None, "ci95": None, "n": 1, "values": [76.1]}
    with pytest.raises(ValueError, match="no values"):
        summary([])


def test_paired_difference_of_hand_worked_values():
    # d = 1 2 3: mean 2, s_d = 1, t = 2 sqrt(3); with 2 degrees of freedom the two-sided p is 1 - t / sqrt(2 + t^2),
    # and t(0.975, 2) is 4.302653.
    got = paired_difference([11, 22, 33], [10, 20, 30])
    assert got["difference"] == 2
    assert got["p"] == pytest.approx(1 - 12**0.5 / 14**0.5, rel=1e-6)
    assert got["ci95"] == pytest.approx([2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5], rel=1e-6)
    assert got["n"] == 3


def test_paired_difference_agrees_with_scipy():
    variant, baseline = [88.2, 89.4, 87.0, 90.2], [89.0, 89.2, 88.8, 90.4]
    test = stats.ttest_rel(variant, baseline)
    interval = test.confidence_interval(0.95)
    got = paired_difference(variant, baseline)
    assert got["p"] == pytest.approx(test.pvalue, rel=1e-9)
    assert got["ci95"] == pytest.approx([interval.low, interval.high], rel=1e-9)


@pytest.mark.parametrize(
    ("values", "baseline", "difference", "p"),
    [
        ([90.0], [89.0], 1.0, None),
        ([90.0, 91.0], [90.0, 91.0], 0.0, 1.0),
        ([90.2, 91.4, 88.6], [90.0, 91.2, 88.4], 0.2, None),  # equal but for rounding: no variance to test against
    ],
)
def test_degenerate_pairs_give_no_warning_and_no_false_certainty(values, baseline, difference, p):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = paired_difference(values, baseline)
    assert got["difference"] == pytest.approx(difference)
    assert got["p"] == p


def test_pairs_must_match():
    with pytest.raises(ValueError):
        paired_difference([1.0, 2.0], [1.0])


def test_holm_on_a_hand_worked_example():
    # Sorted .005 .01 .03 .04 times 4 3 2 1 is .02 .03 .06 .04; the running maximum lifts the last to .06.
    got = holm({"a": 0.01, "b": 0.04, "c": None, "d": 0.03, "e": 0.005})
    assert got == {
        "a": pytest.approx(0.03),
        "b": pytest.approx(0.06),
        "c": None,
        "d": pytest.approx(0.06),
        "e": pytest.approx(0.02),
    }
    assert holm({"a": 0.7, "b": 0.8}) == {"a": 1.0, "b": 1.0}
