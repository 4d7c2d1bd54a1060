# SPDX-License-Identifier: Apache-2.0
"""A sweep of scores: scikit-learn's metrics, DeLong's variances by their definition, calibration by numpy.

Writes metrics_sweep.json. The samples are not stored: both sides draw them from one linear congruential generator
(Knuth's MMIX), five numbers a sample in the order label, unknown, score, other score, probability. Labels of -1 are left
out before anything is computed.
"""

import numpy
import scipy.stats
from sklearn.metrics import (average_precision_score, balanced_accuracy_score, brier_score_loss, f1_score, precision_score,
                             recall_score, roc_auc_score, roc_curve)

from golden_io import record, save_json

PACKAGES = ["scikit-learn", "numpy", "scipy"]
MASK = 2**64 - 1
GRID = numpy.arange(51) / 50


def draw(case):
    state = case["seed"]
    rows = []

    def uniform():
        nonlocal state
        state = (state * 6364136223846793005 + 1442695040888963407) & MASK
        return (state >> 11) * 2.0**-53

    for i in range(case["n"]):
        label, unknown, score, other, probability = (uniform() for _ in range(5))
        label = 1 if label < case["prevalence"] else 0
        if i < 2 and case["has_both"]:
            label = i
        known = i < 2 or unknown >= case["unknown"]
        score = score + case["shift"] * label
        other = other + 0.5 * score
        if case["levels"]:
            score, other, probability = (float(numpy.floor(v * case["levels"]) / case["levels"]) for v in
                                         (score, other, probability))
        rows.append((label if known else -1, score, other, probability))
    rows = [row for row in rows if row[0] >= 0]
    return (numpy.array(column) for column in zip(*rows))


def structural_components(scores, labels):
    """psi(X, Y) = 1, 1/2, 0 for each positive X and negative Y: the definition, pair by pair."""
    x, y = scores[labels == 1][:, None], scores[labels == 0][None, :]
    psi = (x > y) + 0.5 * (x == y)
    return psi.mean(1), psi.mean(0)


def delong(parts):
    """Covariance of the AUCs whose (V10, V01) are given."""
    v10, v01 = (numpy.array([part[k] for part in parts]) for k in (0, 1))
    return (numpy.cov(v10, ddof=1).reshape(len(parts), -1) / v10.shape[1]
            + numpy.cov(v01, ddof=1).reshape(len(parts), -1) / v01.shape[1])


def figures(case):
    labels, scores, other, probabilities = draw(case)
    predicted = (scores >= case["threshold"]).astype(int)
    positive, n = int(labels.sum()), len(labels)

    def given(value, is_defined):
        return float(value) if is_defined else None

    bins = numpy.minimum((probabilities * 10).astype(int), 9)
    ece = sum(numpy.abs(probabilities[bins == b].mean() - labels[bins == b].mean()) * (bins == b).sum() / n
              for b in range(10) if (bins == b).any())
    both = 0 < positive < n
    result = {"positive": positive, "known": n,
              "auc": roc_auc_score(labels, scores) if both else None,
              "average_precision": given(average_precision_score(labels, scores) if positive else 0, positive > 0),
              "f1": float(f1_score(labels, predicted, zero_division=0.0)),
              "sensitivity": given(recall_score(labels, predicted, zero_division=0), positive > 0),
              "specificity": given(recall_score(labels, predicted, pos_label=0, zero_division=0), positive < n),
              "ppv": given(precision_score(labels, predicted, zero_division=0), predicted.any()),
              "npv": given(precision_score(labels, predicted, pos_label=0, zero_division=0), not predicted.all()),
              "balanced_accuracy": balanced_accuracy_score(labels, predicted) if both else None,
              "brier": float(brier_score_loss(labels, probabilities, pos_label=1)), "ece": float(ece)}
    if 2 <= positive <= n - 2:
        covariance = delong([structural_components(scores, labels), structural_components(other, labels)])
        variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
        difference = roc_auc_score(labels, scores) - roc_auc_score(labels, other)
        result |= {"delong_variance": covariance[0, 0], "difference": difference, "difference_variance": variance,
                   "p": 2 * scipy.stats.norm.sf(abs(difference) / numpy.sqrt(variance)) if variance > 1e-20 else None}
    if case["has_curves"]:
        false_rate, true_rate, thresholds = roc_curve(labels, scores, drop_intermediate=False)
        reaches = [thresholds[1:][true_rate[1:] >= r][0] for r in GRID]
        result |= {"roc": numpy.interp(GRID, false_rate, true_rate).tolist(),
                   "precision_recall": [precision_score(labels, scores >= t) for t in reaches]}
    return result


def main():
    cases = []
    sizes = (2, 3, 4, 5, 7, 10, 15, 25, 40, 80, 150, 300, 600, 1500, 5000)
    for k, n in enumerate(sizes):
        for j, (prevalence, levels, shift, unknown) in enumerate((
                (0.5, 0, 0.25, 0), (0.3, 5, 0.5, 0), (0.1, 20, 0.5, 0.2), (0.9, 2, 0.0, 0), (0.5, 1, 0.25, 0.3),
                (0.4, 0, 0.0, 0.5), (0.2, 0, 0.75, 0), (0.0, 4, 0.5, 0), (1.0, 0, 0.5, 0), (0.6, 50, 0.1, 0),
                (0.5, 3, 1.0, 0.1))):
            case = {"n": n, "seed": 1000 * k + j + 1, "prevalence": prevalence, "levels": levels, "shift": shift,
                    "unknown": unknown, "threshold": 0.5 + 0.25 * (j % 3), "has_both": 0 < prevalence < 1}
            case["has_curves"] = bool(case["has_both"] and n in (25, 150) and j in (0, 1, 4, 6))
            cases.append(case | figures(case))
    about = record(__file__, PACKAGES, {"null": "not defined", "cases": "drawn, see the script"})
    save_json("metrics_sweep", about | {"cases": cases}, indent=None)


if __name__ == "__main__":
    main()
