"""The statistics behind every number the repository prints: intervals, paired differences, Holm's correction.

Values are one number per replica (seed or fold), in the metric's own unit: percent for accuracies and BLEU.
"""

import math
from collections.abc import Mapping, Sequence

from scipy import special  # scipy.stats takes another second to import

CONFIDENCE = 0.95
# Differences that are all equal still differ by rounding (90.2 - 90.0 is not 91.2 - 91.0): below this share of the
# largest value, their spread is rounding and not variance.
ROUNDING = 1e-9


def summary(values: Sequence[float]) -> dict:
    r"""Mean, spread and interval of ``n`` values, as ``result.json`` stores them.

    .. math:: \bar x = \tfrac1n \sum_i x_i, \quad
        s = \sqrt{\tfrac1{n-1} \sum_i (x_i - \bar x)^2}, \quad
        \bar x \pm t_{0.975,\,n-1}\, s / \sqrt n

    Args:
        values: at least one number.

    Returns:
        ``mean``, ``std`` (s, with n - 1), ``ci95`` (``[low, high]``, Student's t), ``n`` and ``values``. One value has
        no spread: ``std`` and ``ci95`` are then None.

    Raises:
        ValueError: there are no values.
    """
    values = [float(value) for value in values]
    n = len(values)
    if n == 0:
        raise ValueError("no values to summarise")
    mean = math.fsum(values) / n
    if n == 1:
        return {"mean": mean, "std": None, "ci95": None, "n": n, "values": values}
    std = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = float(special.stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * std / math.sqrt(n)
    return {"mean": mean, "std": std, "ci95": [mean - half, mean + half], "n": n, "values": values}


def paired_difference(values: Sequence[float], baseline_values: Sequence[float]) -> dict:
    r"""Difference from a baseline measured on the same seeds, with Student's paired t-test.

    With :math:`d_i = x_i - b_i`: the mean :math:`\bar d`, the interval :math:`\bar d \pm t_{0.975,\,n-1}\, s_d/\sqrt n`
    and the two-sided p-value of :math:`t = \bar d \sqrt n / s_d` with n - 1 degrees of freedom.

    Args:
        values: the variant's values; ``values[i]`` has the seed of ``baseline_values[i]``.
        baseline_values: as many values of the baseline.

    Returns:
        ``difference``, ``ci95``, ``p`` and ``n``. One pair has neither interval nor p (None). Differences that are
        all equal have no variance to test against: p is 1 where they are zero and None (undefined) elsewhere.

    Raises:
        ValueError: the lengths differ or are zero.
    """
    differences = [float(value) - float(base) for value, base in zip(values, baseline_values, strict=True)]
    described = summary(differences)
    mean, std, n = described["mean"], described["std"], described["n"]
    scale = max(abs(float(value)) for value in (*values, *baseline_values))
    if std is None:
        p = None
    elif std <= ROUNDING * scale:
        p = 1.0 if abs(mean) <= ROUNDING * scale else None
    else:
        p = float(2 * special.stdtr(n - 1, -abs(mean) * math.sqrt(n) / std))
    return {"difference": mean, "ci95": described["ci95"], "p": p, "n": n}


def holm(p_values: Mapping[str, float | None]) -> dict[str, float | None]:
    r"""Holm's step-down correction (Holm 1979) of the p-values of one study.

    The m p-values in rising order become :math:`\tilde p_{(i)} = \max_{j \le i} \min(1, (m - j + 1)\, p_{(j)})`, so
    that calling :math:`\tilde p \le \alpha` significant errs anywhere in the study with probability at most alpha.

    Args:
        p_values: a p-value per comparison. None (nothing could be tested) stays None and does not count in m.
    """
    adjusted = dict.fromkeys(p_values)
    tested = sorted((p, name) for name, p in p_values.items() if p is not None)
    largest = 0.0
    for position, (p, name) in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - position) * p))
        adjusted[name] = largest
    return adjusted
