# SPDX-License-Identifier: Apache-2.0
"""Bootstrap intervals by patient: the same resamples drawn here, scored by scikit-learn, quantiles by numpy.

Writes bootstrap.json. A resample draws as many patients as there are, with replacement, and takes all studies of each;
one that holds a single class is drawn again. Draw number i of resample s comes from SplitMix64 keyed by
(seed, "boot", s); patients are numbered in the order of their first study.
"""

import numpy
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score, roc_auc_score, roc_curve

from golden_io import record, save_json

PACKAGES = ["scikit-learn", "numpy"]
MASK = 2**64 - 1
GAMMA = 0x9E3779B97F4A7C15
BOOTSTRAP_KEY = 0x626F6F74


def mixed(x):
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def draws_below(n, key):
    """Uniform whole numbers below n without modulo bias, for ever."""
    state = 0x243F6A8885A308D3
    for part in key:
        state = mixed(((state ^ mixed((part + GAMMA) & MASK)) + GAMMA) & MASK)
    limit = 2**64 - 2**64 % n
    while True:
        state = (state + GAMMA) & MASK
        bits = mixed(state)
        if bits < limit:
            yield bits % n


def intervals(scores, labels, patients, threshold, num_samples, seed):
    names = list(dict.fromkeys(patients))
    studies = [[i for i, p in enumerate(patients) if p == name] for name in names]
    values = {key: [] for key in ("auc", "average_precision", "f1", "sensitivity", "specificity", "ppv", "npv",
                                  "balanced_accuracy")}
    curves = {"roc": [], "precision_recall": []}
    grid = numpy.arange(51) / 50
    for sample in range(num_samples):
        draws = draws_below(len(names), (seed, BOOTSTRAP_KEY, sample))
        while True:
            rows = [i for _ in names for i in studies[next(draws)]]
            truth, score = labels[rows], scores[rows]
            if 0 < truth.sum() < len(truth):
                break
        predicted = (score >= threshold).astype(int)
        values["auc"].append(roc_auc_score(truth, score))
        values["f1"].append(f1_score(truth, predicted, zero_division=0.0))
        values["sensitivity"].append(recall_score(truth, predicted))
        values["specificity"].append(recall_score(truth, predicted, pos_label=0))
        values["average_precision"].append(average_precision_score(truth, score))
        values["ppv"].append(precision_score(truth, predicted, zero_division=numpy.nan))
        values["npv"].append(precision_score(truth, predicted, pos_label=0, zero_division=numpy.nan))
        values["balanced_accuracy"].append((values["sensitivity"][-1] + values["specificity"][-1]) / 2)
        false_rate, true_rate, thresholds = roc_curve(truth, score, drop_intermediate=False)
        curves["roc"].append(numpy.interp(grid, false_rate, true_rate))
        reaches = [thresholds[1:][true_rate[1:] >= r][0] for r in grid]  # falling: the highest that does
        curves["precision_recall"].append([precision_score(truth, score >= t) for t in reaches])
    result = {key: numpy.nanpercentile(value, [2.5, 97.5]).tolist() for key, value in values.items()}
    for key, curve in curves.items():
        result[key] = numpy.percentile(curve, [2.5, 97.5], axis=0)[:, ::10].tolist()
    return result


def cases(random):
    result = {}
    for name, n, num_patients, prevalence, decimals, num_samples in (
            ("one_study_each", 40, 40, 0.5, None, 100), ("repeated", 60, 14, 0.4, None, 101),
            ("ties", 50, 20, 0.3, 1, 64), ("rare", 24, 9, 0.1, None, 50)):
        labels = (random.uniform(size=n) < prevalence).astype(int)
        labels[:2] = [0, 1]
        scores = random.standard_normal(n) + labels
        if decimals is not None:
            scores = scores.round(decimals)
        patients = [f"p{i}" for i in (range(n) if num_patients == n else random.integers(num_patients, size=n))]
        seed = int(random.integers(2**31))
        result[name] = {"scores": scores.tolist(), "labels": labels.tolist(), "patients": patients, "threshold": 0.4,
                        "num_samples": num_samples, "seed": seed,
                        "intervals": intervals(scores, labels, patients, 0.4, num_samples, seed)}
    return result


def main():
    about = record(__file__, PACKAGES, {
        "intervals": "numpy.percentile, linear, of 2.5 and 97.5; what a resample leaves undefined is left out",
        "roc": "low and high at 1 - specificity 0, 0.2 ... 1", "precision_recall": "low and high at recall 0, 0.2 ... 1"})
    save_json("bootstrap", about | {"cases": cases(numpy.random.default_rng(71))}, indent=None)


if __name__ == "__main__":
    main()
