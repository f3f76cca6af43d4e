"""Logistic regression and gradient boosting that may become champion.

They learn what the baselines of the same method learn, of the same inputs: all features of a session and the returns of
the sessions before it. Here their logits are calibrated on the calibrate range, and they are saved.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

import numpy as np
from numpy.typing import NDArray

from models.baseline_inputs import RECENT, Inputs, read_recent
from models.baselines import Baseline, FittedBaseline
from models.calibration.calibrator import Calibration, Calibrator, fit_calibrator, recentre, uncalibrated
from models.classifiers.skops_files import estimator_file, save_estimator
from models.ensembles.custom_ensemble import Trained
from models.ensembles.model_files import CLASSIFIER, write_metadata, writing
from models.learners import BOOSTING, LOGISTIC, Learn, Tuned
from models.prediction import Prediction, on_panel
from models.training.futures import DeferredFuture
from models.windows import Mode, check_panel, closed_up, labelled_rows, usable_rows

__all__ = ["ClassifierEnsemble", "ClassifierKind", "ClassifierModel", "make_baseline"]

ClassifierKind = Literal["boosting", "logistic"]

_LEARN: Final[Mapping[ClassifierKind, Learn | Tuned]] = {"boosting": BOOSTING, "logistic": LOGISTIC}

_CERTAIN: Final = 0.999
"""Probabilities are clipped to [1 - _CERTAIN, _CERTAIN]: the logit of 0 or 1 is infinite."""


@dataclass(frozen=True)
class ClassifierEnsemble:
    """A fitted classifier per output: an ensemble of one member, with what every model that forecasts has.

    Attributes:
        kind: boosting or logistic.
        return_feature: Column of x with the return of the row's own session.
        fitted: The estimates, and what they read.
        calibrator: Maps the logit of an estimate to p_up and to a direction.
        seed: That of the fit.
        centre: Mean of the inputs over the training rows, float32 [column]: what attributions start from.
        extra: What the caller saved with the model.
        first_fit: The model before its second fit; None: there was none.
        history, left_out: Always empty: there are no epochs, and every symbol is forecast.
        per_symbol: Whether each symbol has a model of its own; it has not.
        explainable: Whether `models.explain` can inspect it and attribute its forecasts; it can.
    """

    history: ClassVar[Sequence[Any]] = ()
    left_out: ClassVar[Mapping[int, str]] = {}
    per_symbol: ClassVar[bool] = False
    explainable: ClassVar[bool] = True

    kind: ClassifierKind
    return_feature: int
    fitted: FittedBaseline = field(repr=False)
    calibrator: Calibrator
    seed: int
    centre: NDArray[np.float32] = field(repr=False)
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)
    first_fit: "ClassifierEnsemble | None" = field(default=None, repr=False)

    @property
    def held_out(self) -> "ClassifierEnsemble":
        """The model of the first fit, which has not learned from the calibrate range; it may be this one."""
        return self.first_fit or self

    @property
    def start(self) -> int | None:
        """The session of the block from which it reads in sequence mode; None: it reads windows."""
        return self.fitted.start

    @property
    def base_rate(self) -> NDArray[np.float64]:
        """Share of ups among the training rows, [output]."""
        return self.fitted.base_rate

    @property
    def threshold(self) -> NDArray[np.float64]:
        """The least |p_up - 0.5| at which a direction is issued, [output]."""
        return np.array(self.calibrator.abstention.threshold)

    def may_start(self, train: range) -> bool:
        """Return whether another fit may start from this one: never, a classifier is fitted from the beginning."""
        return False

    def arranged(self, rows: Sequence[int]) -> "ClassifierEnsemble":
        """Return the model for blocks whose symbols are the rows `rows` of the fitted one: itself, it is pooled."""
        return self

    def first_session(self, row: int) -> int:
        """Return the first session that forecasts from session `row` on read, in the block of the fit."""
        return self.fitted.first_session(row)

    def usable(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return the rows that can be forecast, bool [symbol, session]."""
        return usable_rows(mask, self.fitted.lookback, self.fitted.mode)

    def read(self, x: NDArray[np.float32], mask: NDArray[np.bool_], rows: NDArray[np.int32]) -> Inputs:
        """Return the inputs of rows with the flat numbers `rows`, [row, column], see `read_recent`."""
        return self.fitted.reads[0](x, mask, rows)

    def estimate(self, inputs: Inputs) -> NDArray[np.float64]:
        """Return the logits [row, output] of inputs [row, column], before calibration."""
        columns = [estimate(inputs) for estimate in self.fitted.estimates if estimate is not None]
        p_up = np.clip(np.stack(columns, axis=-1), 1 - _CERTAIN, _CERTAIN)
        return np.asarray(np.log(p_up) - np.log1p(-p_up))

    def predict(self, x: NDArray[np.float32], mask: NDArray[np.bool_]) -> Prediction:
        """Forecast every usable row of x.

        Args:
            x: Features, float32 [symbol, session, feature].
            mask: [symbol, session], true where the row is valid.

        Returns:
            p_up, float64 [symbol, session, output]; low and high are the same: one member has no spread.

        Raises:
            ModelError: if the shapes do not fit, or a valid row is not finite.
        """
        check_panel(x, mask, self.fitted.features)
        usable = self.usable(mask)
        rows = closed_up(usable)
        outputs = len(self.base_rate)
        logits = self.estimate(self.read(x, mask, rows)) if len(rows) else np.empty((0, outputs))
        p_up = on_panel(self.calibrator.p_up(logits), usable)
        return Prediction(p_up, p_up, p_up)

    def save(self, directory: Path, extra: Mapping[str, Any] | None = None) -> None:
        """Write output-<k>.skops for each output, and model.json, into a new folder, all or nothing.

        Args:
            directory: A folder that does not exist yet, or is empty.
            extra: JSON-ready metadata to keep with the model; by default what it was loaded with.

        Raises:
            ModelError: if the folder holds something already.
        """
        with writing(directory) as draft:
            for number, estimate in enumerate(self.fitted.estimates, start=1):
                assert estimate is not None  # a classifier is meant for every output
                save_estimator(estimate, draft / estimator_file(number))
            write_metadata(draft, self._metadata(self.extra if extra is None else extra))

    def _metadata(self, extra: Mapping[str, Any]) -> dict[str, Any]:
        import sklearn
        import skops

        return {
            "family": CLASSIFIER,
            "kind": self.kind,
            "lookback": self.fitted.lookback,
            "mode": self.fitted.mode,
            "features": self.fitted.features,
            "return_feature": self.return_feature,
            "seeds": [self.seed],
            "calibrator": self.calibrator.to_json(),
            "base_rate": self.base_rate.tolist(),
            "centre": self.centre.tolist(),
            "sklearn": sklearn.__version__,
            "skops": skops.__version__,
            "extra": dict(extra),
        }


@dataclass(frozen=True)
class ClassifierModel:
    """Fits a classifier for every output, in this process.

    Attributes:
        kind: boosting or logistic.
        return_feature: Column of x with the return of the row's own session.
        lookback: Sessions that a row needs, as for the networks.
        mode: Which sessions these are, as for the networks.
        progress: Called once, when it is fitted.
        calibration: How the logit is calibrated, and when a direction is issued.
    """

    kind: ClassifierKind
    return_feature: int
    lookback: int
    mode: Mode = "windowed"
    progress: Callable[[Trained], None] | None = None
    calibration: Calibration = field(default_factory=Calibration)

    def fit(
        self,
        x: NDArray[np.float32],
        mask: NDArray[np.bool_],
        y: NDArray[np.float32],
        *,
        train: range,
        stop: range,
        calibrate: range,
        seed: int,
        refit: NDArray[np.float32] | None = None,
    ) -> ClassifierEnsemble:
        """Fit on `train`, choose the penalty of logistic regression on `stop`, calibrate on `calibrate`.

        Args:
            x: Features, float32 [symbol, session, feature].
            mask: [symbol, session], true where the row is valid.
            y: float32 [symbol, session, output] in {0, 1}; NaN where unknown or not to be used.
            train: Session numbers to fit on.
            stop: Session numbers that choose the penalty.
            calibrate: Session numbers that set the calibration and the abstention.
            seed: Seed of boosting.
            refit: Labels of a second fit on all three ranges with that penalty, whose calibration is kept; None: there
                is none.

        Raises:
            ModelError: if a range has no usable label, or an input is not finite.
        """
        baseline = make_baseline(self.kind, self.return_feature, self.lookback, self.mode)
        again = baseline.fit(x, mask, y, train=train, stop=stop, calibrate=calibrate, seed=seed, refit=refit)
        outputs = y.shape[-1]
        first = ClassifierEnsemble(
            *(self.kind, self.return_feature, again.held_out, uncalibrated(outputs), seed),
            centre=_mean_inputs(again, x, mask, y, train),
        )
        logits, labels, sessions = _calibration_rows(first, x, mask, y, calibrate)
        calibrator = fit_calibrator(logits, labels, first.base_rate, sessions, self.calibration)
        first = replace(first, calibrator=calibrator)
        if self.progress:
            self.progress(Trained(1, 1))
        if refit is None:
            return first
        centred = recentre(calibrator, logits, labels, first.base_rate, again.base_rate, self.calibration)
        return replace(first, fitted=again, calibrator=centred, first_fit=first)

    def submit(
        self,
        x: NDArray[np.float32],
        mask: NDArray[np.bool_],
        y: NDArray[np.float32],
        *,
        train: range,
        stop: range,
        calibrate: range,
        seed: int,
        refit: NDArray[np.float32] | None = None,
    ) -> DeferredFuture[ClassifierEnsemble]:
        """Return a future whose `result` calls `fit`, in this process."""
        ranges = {"train": train, "stop": stop, "calibrate": calibrate}
        return DeferredFuture(partial(self.fit, x, mask, y, **ranges, seed=seed, refit=refit))


def make_baseline(kind: ClassifierKind, return_feature: int, lookback: int, mode: Mode) -> Baseline:
    """Return the classifier as a baseline, whose estimates are not calibrated."""
    recent = min(RECENT, lookback)
    return Baseline(_LEARN[kind], partial(read_recent, return_feature, recent), recent, lookback, mode)


def _mean_inputs(
    fitted: FittedBaseline,
    x: NDArray[np.float32],
    mask: NDArray[np.bool_],
    y: NDArray[np.float32],
    train: range,
) -> NDArray[np.float32]:
    """Return the mean of the inputs over the rows of `train` with a label, [column]."""
    rows = labelled_rows(usable_rows(mask, fitted.lookback, fitted.mode), y, train, "train")
    return np.asarray(fitted.reads[0](x, mask, rows).mean(axis=0, dtype=np.float64), np.float32)


def _calibration_rows(
    model: ClassifierEnsemble,
    x: NDArray[np.float32],
    mask: NDArray[np.bool_],
    y: NDArray[np.float32],
    calibrate: range,
) -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.int32]]:
    """Return logits [row, output], labels [row, output] and session numbers [row] of `calibrate`."""
    start = model.start or 0
    x, mask, y = x[:, start:], mask[:, start:], y[:, start:]
    inside = range(calibrate.start - start, calibrate.stop - start)
    rows = labelled_rows(model.usable(mask), y, inside, "calibrate")
    return model.estimate(model.read(x, mask, rows)), y.reshape(-1, y.shape[-1])[rows], rows % mask.shape[1]
