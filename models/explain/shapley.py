"""Attribute the forecasts of a classifier to its inputs by Shapley values, and measure what it relies on.

The value of an input is its mean effect on the logit, over all orders in which the inputs can change from their
training mean to what they are (Shapley 1953; with one reference, Lundberg et al. 2020, "From local explanations to
global understanding with explainable AI for trees", interventional). For logistic regression that is weight times
deviation; for a tree it is a sum over leaves. Both are exact, and add up to the logit.
"""

from collections.abc import Iterator
from math import factorial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.baseline_inputs import Inputs
from models.classifiers.classifier import ClassifierEnsemble
from models.explain.attribution import Attribution, Explanation
from models.learners import Classified
from models.windows import labelled_rows

__all__ = ["attribute_columns", "explain_classifier", "measure_permutation"]

_MOST_ROWS: Final = 2048
_REPEATS: Final = 2


def explain_classifier(
    fitted: ClassifierEnsemble, x: NDArray[np.float32], mask: NDArray[np.bool_], rows: NDArray[np.int32]
) -> Explanation:
    """Attribute the logits of usable rows to the sessions and features of their inputs.

    Args:
        fitted: The classifier.
        x: Features, float32 [symbol, session, feature], from the session at which it starts.
        mask: [symbol, session], true where the row is valid.
        rows: Flat numbers of rows that can be forecast, ascending.
    """
    inputs, outputs = fitted.read(x, mask, rows), len(fitted.base_rate)
    lags, features = fitted.fitted.reach, fitted.fitted.features
    values = np.zeros((len(rows), lags, features, outputs), np.float32)
    for output, estimate in enumerate(fitted.fitted.estimates):
        if isinstance(estimate, Classified):
            by_column = attribute_columns(estimate, inputs, fitted.centre)
            values[:, 0, :, output] = by_column[:, :features]
            # Behind the features of the last session stand the returns before it, the oldest first.
            values[:, 1:, fitted.return_feature, output] = by_column[:, features:][:, ::-1]
    logit, centre = fitted.estimate(inputs), fitted.estimate(fitted.centre[None])[0]
    gap = np.abs(values.sum(axis=(1, 2), dtype=np.float64) - (logit - centre)).max(axis=1, initial=0)
    return Explanation(
        Attribution(values, logit, centre, gap),
        baseline=np.broadcast_to(centre, logit.shape),
        whole=logit,
        sessions=np.full(len(rows), lags),
    )


def attribute_columns(
    estimate: Classified, inputs: Inputs, centre: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return the Shapley values of inputs [row, column] against the reference `centre` [column], in logits."""
    classifier = estimate.classifier
    if hasattr(classifier, "steps"):
        scale, regression = (step for _, step in classifier.steps)
        return np.asarray((inputs - centre) / scale.scale_ * regression.coef_[0], np.float64)
    total = np.zeros(inputs.shape)
    for (tree,) in classifier._predictors:
        for value, box in _leaves(tree.nodes):
            _add_leaf(total, value, box, inputs, centre)
    return total


def _leaves(nodes: Any) -> Iterator[tuple[float, dict[int, tuple[float, float]]]]:
    """Yield each leaf's value, and the interval (low, high] of every column that leads to it."""
    open_nodes: list[tuple[int, dict[int, tuple[float, float]]]] = [(0, {})]
    while open_nodes:
        at, box = open_nodes.pop()
        node = nodes[at]
        if node["is_leaf"]:
            yield float(node["value"]), box
            continue
        column, threshold = int(node["feature_idx"]), float(node["num_threshold"])
        low, high = box.get(column, (-np.inf, np.inf))
        open_nodes.append((int(node["left"]), box | {column: (low, min(high, threshold))}))
        open_nodes.append((int(node["right"]), box | {column: (max(low, threshold), high)}))


def _add_leaf(
    total: NDArray[np.float64],
    value: float,
    box: dict[int, tuple[float, float]],
    inputs: Inputs,
    centre: NDArray[np.float32],
) -> None:
    """Add the Shapley values of a leaf, a game that only pays where every column lies in its interval.

    Columns that must change to reach it share its value, those that must not lose it; with n of the first and m of the
    second, weights are (n-1)! m! / (n+m)! and n! (m-1)! / (n+m)!.
    """
    columns = [*box]
    low, high = np.array([box[column] for column in columns]).reshape(-1, 2).T
    row, reference = inputs[:, columns].astype(np.float64), centre[columns].astype(np.float64)
    inside, reference_inside = (row > low) & (row <= high), (reference > low) & (reference <= high)
    needs, forbids = inside & ~reference_inside, ~inside & reference_inside
    is_reached = np.asarray((inside | reference_inside).all(axis=1))
    n, m = needs.sum(axis=1), forbids.sum(axis=1)
    most = len(columns) + 1
    gain, loss = np.zeros((most, most)), np.zeros((most, most))
    for a in range(most):
        for b in range(most - a):
            gain[a, b] = factorial(a - 1) * factorial(b) / factorial(a + b) if a else 0
            loss[a, b] = factorial(a) * factorial(b - 1) / factorial(a + b) if b else 0
    shares = needs * gain[n, m][:, None] - forbids * loss[n, m][:, None]
    total[:, columns] += np.where(is_reached[:, None], value * shares, 0.0)


def measure_permutation(
    fitted: ClassifierEnsemble,
    x: NDArray[np.float32],
    mask: NDArray[np.bool_],
    y: NDArray[np.float32],
    *,
    judge: range,
    seed: int,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return how much each row's log loss rises when a feature is replaced by another row's, as of the networks.

    Args:
        fitted: The classifier.
        x: Features, float32 [symbol, session, feature].
        mask: [symbol, session], true where the row is valid.
        y: float32 [symbol, session, output] in {0, 1}; NaN where unknown.
        judge: Session numbers not used in the fit.
        seed: Of the rows drawn and of the permutations.

    Returns:
        Nats, float64 [feature, row, output], NaN where the label is unknown; and the rows' session numbers.

    Raises:
        ModelError: no row of `judge` has both history and label.
    """
    rng = np.random.default_rng(seed)
    rows = labelled_rows(fitted.usable(mask), y, judge, "judge")
    if len(rows) > _MOST_ROWS:
        rows = np.sort(rng.choice(rows, _MOST_ROWS, replace=False))
    inputs, labels = fitted.read(x, mask, rows), y.reshape(-1, y.shape[-1])[rows]
    features = fitted.fitted.features

    def log_loss(changed: Inputs) -> NDArray[np.float64]:
        logits = fitted.estimate(changed)
        return np.asarray(np.logaddexp(0, logits) - labels * logits)

    usual = log_loss(inputs)
    rises = np.zeros((features, *usual.shape))
    for feature, rise in enumerate(rises):
        columns = (
            [feature, *range(features, inputs.shape[1])] if feature == fitted.return_feature else [feature]
        )
        for _ in range(_REPEATS):
            changed = inputs.copy()
            changed[:, columns] = inputs[rng.permutation(len(inputs))][:, columns]
            rise += log_loss(changed) - usual
    return rises / _REPEATS, rows.astype(np.int64) % mask.shape[1]
