"""What a baseline learns: rules that say how often they were right, and small classical models.

scikit-learn is imported where a model is fitted: a forecast needs none of it.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.baseline_inputs import Inputs
from models.scaling import replace_outliers

__all__ = [
    "BOOSTING",
    "LOGISTIC",
    "STRENGTHS",
    "Classified",
    "Constant",
    "Estimate",
    "Learn",
    "Rows",
    "Tuned",
    "learn_logistic_without",
    "learn_sign",
    "learners",
    "rules",
]

_CERTAIN: Final = 0.999
"""Highest probability of a rule: at 1, a single miss would cost an infinite log loss."""

_LEAST_SURE: Final = 0.501
"""Lowest probability of a rule's direction: it issues one even if it was no better than chance in training."""

Estimate = Callable[[Inputs], NDArray[np.float64]]
"""Inputs [row, column] to p_up [row]."""

Learn = Callable[[Inputs, NDArray[np.float32], int], Estimate]
"""Inputs [row, column], labels [row] and a seed to an estimate."""

Rows = tuple[Inputs, NDArray[np.float32]]
"""Inputs [row, column] and labels [row]."""

STRENGTHS: Final = (1e-5, 1e-4, 1e-3, 1e-2)
"""The inverse penalties among which logistic regression chooses, from the strongest penalty on."""


@dataclass(frozen=True)
class Tuned:
    """A way to learn whose penalty the stop range chooses, as it stops the network.

    Attributes:
        learn: Takes the inverse penalty, then what a Learn takes.
    """

    learn: Callable[[float, Inputs, NDArray[np.float32], int], Estimate]

    def choose(self, train: Rows, stop: Rows, seed: int) -> Learn:
        """Return the way to learn with the lowest log loss on the rows of `stop`; of equal ones the most cautious."""
        losses = []
        for strength in STRENGTHS:
            p = np.clip(self.learn(strength, *train, seed)(stop[0]), 1 - _CERTAIN, _CERTAIN)
            losses.append(-float(np.mean(np.log(np.where(stop[1] > 0.5, p, 1 - p)))))
        return partial(self.learn, STRENGTHS[int(np.argmin(losses))])


@dataclass(frozen=True)
class Constant:
    """An estimate that is the same for every row."""

    p_up: float

    def __call__(self, inputs: Inputs) -> NDArray[np.float64]:
        """Return p_up for each row."""
        return np.full(len(inputs), self.p_up)


@dataclass(frozen=True)
class Classified:
    """The estimate of a fitted classifier of scikit-learn."""

    classifier: Any

    def __call__(self, inputs: Inputs) -> NDArray[np.float64]:
        """Return the probability of the second class for each row."""
        # OpenBLAS may flag an invalid operation on finite numbers (OpenBLAS issue 1924, NumPy issue 24067).
        with _one_boosting_thread(), np.errstate(invalid="ignore"):
            return np.asarray(self.classifier.predict_proba(inputs)[:, 1], dtype=np.float64)


def _share_of_ups(labels: NDArray[np.float32]) -> float:
    return float(np.clip(labels.mean(dtype=np.float64), 1 - _CERTAIN, _CERTAIN))


def _learn_always_up(inputs: Inputs, labels: NDArray[np.float32], seed: int) -> Estimate:
    return Constant(max(_share_of_ups(labels), _LEAST_SURE))


def _learn_base_rate(inputs: Inputs, labels: NDArray[np.float32], seed: int) -> Estimate:
    return Constant(_share_of_ups(labels))


def learn_sign(direction_of: Callable[[Inputs], NDArray[np.float32]]) -> Learn:
    """Return a rule whose direction is the sign of a number."""

    def learn(inputs: Inputs, labels: NDArray[np.float32], seed: int) -> Estimate:
        base_rate, direction = _share_of_ups(labels), direction_of(inputs)
        hits = ((direction > 0) == (labels > 0.5))[direction != 0]
        hit_rate = float(np.clip(hits.mean() if len(hits) else 0.0, _LEAST_SURE, _CERTAIN))

        def estimate(inputs: Inputs) -> NDArray[np.float64]:
            direction = direction_of(inputs)
            return np.select([direction > 0, direction < 0], [hit_rate, 1 - hit_rate], base_rate)

        return estimate

    return learn


def _learn_logistic(strength: float, inputs: Inputs, labels: NDArray[np.float32], seed: int) -> Estimate:
    """Logistic regression on standardised inputs without far outliers, with an L2 penalty of 1 / strength."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=strength, solver="newton-cholesky"))
    return _learn_classifier(pipeline, replace_outliers(inputs), labels)


def learn_logistic_without(
    columns: tuple[int, ...], strength: float, inputs: Inputs, labels: NDArray[np.float32], seed: int
) -> Estimate:
    """Logistic regression without some of the columns."""
    estimate = _learn_logistic(strength, np.delete(inputs, columns, axis=1), labels, seed)
    return lambda inputs: estimate(np.delete(inputs, columns, axis=1))


def _momentum(return_feature: int, recent: int, inputs: Inputs) -> NDArray[np.float32]:
    """Return the sum of the last `recent` returns; the inputs end with those before the last session."""
    before = inputs[:, inputs.shape[1] - (recent - 1) :]
    return np.asarray(inputs[:, return_feature] + before.sum(axis=1))


def _learn_boosting(inputs: Inputs, labels: NDArray[np.float32], seed: int) -> Estimate:
    """Gradient boosting of small trees, kept short: daily returns are nearly all noise."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    trees = HistGradientBoostingClassifier(
        max_iter=50,
        learning_rate=0.05,
        max_leaf_nodes=8,
        min_samples_leaf=200,
        early_stopping=False,
        random_state=seed,
    )
    return _learn_classifier(trees, inputs, labels)


def _learn_classifier(classifier: Any, inputs: Inputs, labels: NDArray[np.float32]) -> Estimate:
    if labels.min() == labels.max():
        return Constant(_share_of_ups(labels))
    with _one_boosting_thread():
        classifier.fit(inputs, labels)
    return Classified(classifier)


def _one_boosting_thread() -> AbstractContextManager[Any]:
    """Keep boosting on one thread: several wait for each other by spinning, many times the work on busy cores."""
    limits: AbstractContextManager[Any] = _thread_pools().limit(limits=1, user_api="openmp")
    return limits


@cache
def _thread_pools() -> Any:
    """Return the thread pools of the libraries that are loaded by now, scikit-learn's among them."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


LOGISTIC: Final = Tuned(_learn_logistic)
"""Logistic regression, its penalty chosen on the stop range."""

BOOSTING: Final[Learn] = _learn_boosting
"""Gradient boosting."""


def rules(return_feature: int, recent: int) -> dict[str, Learn]:
    """Return the rules that read returns alone."""
    return {
        "last_sign": learn_sign(lambda inputs: inputs[:, return_feature]),
        "reversal": learn_sign(lambda inputs: -inputs[:, return_feature]),
        "momentum": learn_sign(partial(_momentum, return_feature, recent)),
        "reversal_5": learn_sign(lambda inputs: -_momentum(return_feature, recent, inputs)),
        "momentum_252_21": learn_sign(lambda inputs: inputs[:, 0]),
    }


def learners(return_feature: int, recent: int) -> dict[str, Learn | Tuned]:
    """Return what every output can learn from recent returns and the features of the last session, by name."""
    return {
        "always_up": _learn_always_up,
        "base_rate": _learn_base_rate,
        **rules(return_feature, recent),
        "logistic_regression": LOGISTIC,
        "gradient_boosting": BOOSTING,
    }
