# SPDX-License-Identifier: Apache-2.0
"""Metrics: scikit-learn's AUC, F1, sensitivity, specificity, thresholds, retrieval and logistic regression.

Writes metrics.json. A score counts as positive when it is >= the threshold. The best thresholds are searched among the
observed scores; where several are equally good the highest is taken, and "equally good" is decided in whole numbers
(hits and counts), since quotients of floating numbers can make two equal thresholds differ in the last bit.
"""

import fractions
import warnings

import numpy
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix, f1_score, recall_score, roc_auc_score, roc_curve, top_k_accuracy_score
from sklearn.preprocessing import StandardScaler

from golden_io import record, save_json

PACKAGES = ["scikit-learn", "numpy", "scipy"]
warnings.simplefilter("ignore", UndefinedMetricWarning)


def number(value):
    """A JSON number; null for NaN."""
    return None if numpy.isnan(value) else float(value)


def counts_at(threshold, scores, labels):
    matrix = confusion_matrix(labels, scores >= threshold, labels=[0, 1])
    return {"true_negative": int(matrix[0, 0]), "false_positive": int(matrix[0, 1]),
            "false_negative": int(matrix[1, 0]), "true_positive": int(matrix[1, 1])}


def metrics_at(threshold, scores, labels):
    predicted = (scores >= threshold).astype(int)
    return {"threshold": float(threshold), "f1": number(f1_score(labels, predicted, zero_division=0.0)),
            "sensitivity": number(recall_score(labels, predicted, zero_division=numpy.nan)),
            "specificity": number(recall_score(labels, predicted, pos_label=0, zero_division=numpy.nan)),
            **counts_at(threshold, scores, labels)}


def best_threshold(rule, scores, labels):
    """The observed score with the best J or F1, the highest of equals, and whether there were equals."""
    def value(threshold):
        c = counts_at(threshold, scores, labels)
        tp, fp, fn, tn = c["true_positive"], c["false_positive"], c["false_negative"], c["true_negative"]
        if rule == "youden":
            return fractions.Fraction(tp, tp + fn) - fractions.Fraction(fp, fp + tn)
        return fractions.Fraction(2 * tp, 2 * tp + fp + fn)

    values = {float(t): value(t) for t in numpy.unique(scores)}
    best = max(values.values())
    chosen = max(t for t, v in values.items() if v == best)
    if rule == "youden":
        false_rate, true_rate, _ = roc_curve(labels, scores, drop_intermediate=False)
        assert abs(float(best) - max((true_rate - false_rate)[1:])) < 1e-12
    else:
        assert abs(float(best) - max(f1_score(labels, scores >= t) for t in values)) < 1e-12
    return {"threshold": chosen, "value": float(best), "equals": sum(v == best for v in values.values())}


def score_cases(random):
    def drawn(n, prevalence, shift, decimals=None):
        labels = (random.uniform(size=n) < prevalence).astype(int)
        scores = random.standard_normal(n) + shift * labels
        return (scores if decimals is None else scores.round(decimals)), labels

    cases = {
        "one_each": ([0.2, 0.7], [0, 1]), "one_each_wrong": ([0.7, 0.2], [0, 1]), "one_each_tied": ([0.5, 0.5], [0, 1]),
        "perfect": ([-3.0, -1.0, 0.5, 2.0], [0, 0, 1, 1]), "inverted": ([3.0, 1.0, -0.5, -2.0], [0, 0, 1, 1]),
        "all_tied": ([0.25] * 7, [0, 1, 0, 1, 1, 0, 0]),
        "ties_across": ([0.1, 0.4, 0.4, 0.4, 0.8, 0.8, 0.9], [0, 0, 1, 1, 0, 1, 1]),
        "only_positive": ([0.1, 0.2, 0.3], [1, 1, 1]), "only_negative": ([0.1, 0.2, 0.3], [0, 0, 0]),
        "single": ([0.4], [1]), "equal_youden": ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [0, 1, 0, 1, 0, 1]),
        "negative_zero": ([-0.0, 0.0, 0.0, -0.0, 1.0], [0, 1, 0, 1, 1]),
        "tiny_differences": ([1.0, 1.0 + 2**-52, 1.0 - 2**-53, 1.0], [0, 1, 0, 1]),
    }
    for n, prevalence, shift, decimals in ((5, 0.5, 1.0, None), (12, 0.3, 1.0, 1), (30, 0.5, 0.0, 0), (40, 0.1, 1.5, None),
                                           (75, 0.4, 0.7, 1), (200, 0.25, 1.2, 1), (200, 0.5, 2.0, None)):
        scores, labels = drawn(n, prevalence, shift, decimals)
        labels[:2] = [0, 1]
        cases[f"random_{n}_{'all' if decimals is None else decimals}"] = (scores, labels)
    result = {}
    for name, (scores, labels) in cases.items():
        scores, labels = numpy.array(scores, dtype=float), numpy.array(labels)
        both = len(set(labels.tolist())) == 2
        some = numpy.unique(scores)[:: max(1, len(numpy.unique(scores)) // 6)]
        case = {"scores": scores.tolist(), "labels": labels.tolist(),
                "auc": number(roc_auc_score(labels, scores)) if both else None,
                "at": [metrics_at(t, scores, labels) for t in [*some, scores.max() + 1, scores.mean()]]}
        if both:
            case |= {rule: best_threshold(rule, scores, labels) for rule in ("youden", "f1")}
        result[name] = case
    return result


def retrieval_cases(random):
    """Recall at k in both directions; no two similarities are equal, so no rule for ties is needed."""
    result = {}
    for name, n, d, noise in (("small", 5, 3, 0.5), ("medium", 24, 6, 0.9), ("hard", 40, 4, 2.0)):
        image = random.standard_normal((n, d))
        text = image + noise * random.standard_normal((n, d))
        image, text = (rows / numpy.linalg.norm(rows, axis=1, keepdims=True) for rows in (image, text))
        similarity = image @ text.T
        assert len(numpy.unique(similarity.round(9))) == n * n
        case = {"image": image.tolist(), "text": text.tolist()}
        for direction, matrix in (("image_to_text", similarity), ("text_to_image", similarity.T)):
            ranks = 1 + (matrix > numpy.diag(matrix)[:, None]).sum(1)
            recall = {str(k): float(top_k_accuracy_score(numpy.arange(n), matrix, k=k)) for k in (1, 3, 5, 10) if k < n}
            assert all(abs(v - (ranks <= int(k)).mean()) < 1e-12 for k, v in recall.items())
            case[direction] = {"recall": recall, "mean_rank": float(ranks.mean()),
                               "median_rank": float(numpy.median(ranks)), "ranks": ranks.tolist()}
        result[name] = case
    return result


def probe_cases(random):
    """Logistic regression on standardised features; weights and intercept given on the raw features."""
    result = {}
    for name, n, d, c, kind in (("plain", 60, 5, 1.0, ""), ("strong_penalty", 60, 5, 0.01, ""),
                                ("weak_penalty", 60, 5, 100.0, ""), ("wide", 25, 40, 1.0, ""),
                                ("constant_column", 40, 4, 1.0, "constant"), ("scaled", 50, 4, 1.0, "scaled"),
                                ("separable", 30, 3, 1.0, "separable"), ("rare", 80, 4, 1.0, "rare")):
        features = random.standard_normal((n, d))
        logit = features @ random.standard_normal(d) + (-2.5 if kind == "rare" else 0.3)
        labels = (random.uniform(size=n) < 1 / (1 + numpy.exp(-logit))).astype(int)
        if kind == "separable":
            labels = (logit > 0).astype(int)
        if kind == "constant":
            features[:, 2] = 3.25
        if kind == "scaled":
            features = features * [1e-4, 1.0, 50.0, 1e4] + [5.0, -1.0, 1000.0, 3.0]
        if kind != "separable":
            labels[:2] = [0, 1]
        scaler = StandardScaler().fit(features)
        model, check = (LogisticRegression(C=c, solver=solver, tol=tolerance, max_iter=100000).fit(
            scaler.transform(features), labels) for solver, tolerance in (("lbfgs", 1e-10), ("newton-cholesky", 1e-12)))
        difference = float(numpy.abs(numpy.append(model.coef_ - check.coef_, model.intercept_ - check.intercept_)).max())
        assert difference < 1e-6, (name, difference)
        weights = model.coef_[0] / scaler.scale_
        intercept = float(model.intercept_[0] - weights @ scaler.mean_)
        scores = features @ weights + intercept
        result[name] = {"n": n, "d": d, "c": c, "features": features.ravel().tolist(), "labels": labels.tolist(),
                        "weights": weights.tolist(), "intercept": intercept, "scores": scores.tolist(),
                        "standardised_weights": model.coef_[0].tolist(),
                        "standardised_intercept": float(model.intercept_[0]),
                        "auc": float(roc_auc_score(labels, scores)), "newton_difference": difference}
    return result


def main():
    about = record(__file__, PACKAGES, {
        "null": "not a number: the class is absent", "features": "row-major [n,d]",
        "probe": "minimises sum of log-losses + |w|^2 / (2 c), w on standardised columns (population variance)"})
    save_json("metrics", about | {"scores": score_cases(numpy.random.default_rng(61)),
                                  "retrieval": retrieval_cases(numpy.random.default_rng(62)),
                                  "probe": probe_cases(numpy.random.default_rng(63))}, indent=None)


if __name__ == "__main__":
    main()
