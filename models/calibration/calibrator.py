"""The calibrator of a model: curves to probabilities and thresholds of abstention, fitted on the calibrate range."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from models.calibration.abstention import Abstention, fit_abstention
from models.calibration.bayes import PRIOR_DEVIATION, PRIOR_MEAN
from models.calibration.cross_validation import Validation, choose_method, cross_validate
from models.calibration.curves import Curve, curve_from_json, curve_to_json, fit_curve
from models.calibration.temperature import Temperature, base_logit

__all__ = ["Calibration", "Calibrator", "fit_calibrator", "read_calibrator", "recentre", "uncalibrated"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """How a model is to be calibrated.

    Attributes:
        method: bayes, temperature, platt, isotonic; or auto: chosen per horizon by cross-validation on the calibrate
            range.
        coverage: Share of forecasts that should issue a direction.
        gap: Longest horizon of the labels, in sessions.
        prior: Of bayes: mean and standard deviation of the slope before any row is seen.
    """

    method: Literal["bayes", "temperature", "platt", "isotonic", "auto"] = "bayes"
    coverage: float = 1.0
    gap: int = 1
    prior: tuple[float, float] = (PRIOR_MEAN, PRIOR_DEVIATION)


@dataclass(frozen=True)
class Calibrator:
    """A fitted calibration, with one entry per horizon.

    Attributes:
        curves: From the members' mean logit to p_up.
        tables: Cross-validation results of every method; empty if the method was not chosen by them.
        abstention: The least confidence at which a direction is issued.
    """

    curves: tuple[Curve, ...]
    tables: tuple[tuple[Validation, ...], ...]
    abstention: Abstention

    def p_up(self, logits: NDArray[np.floating]) -> Floats:
        """Return the calibrated probabilities of `logits` [..., horizon], non-decreasing in the logit."""
        z = logits.astype(np.float64)
        return np.stack([curve.p_up(z[..., h]) for h, curve in enumerate(self.curves)], axis=-1)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain numbers."""
        return {
            "curves": [curve_to_json(curve) for curve in self.curves],
            "cross_validation": [[asdict(line) for line in table] for table in self.tables],
            "abstention": self.abstention.to_json(),
        }


def uncalibrated(horizons: int) -> Calibrator:
    """Return the calibrator that leaves every probability unchanged."""
    return Calibrator((Temperature(0.5, 1.0),) * horizons, ((),) * horizons, Abstention.never(horizons))


def read_calibrator(kept: Mapping[str, Any]) -> Calibrator:
    """Return the calibrator that `Calibrator.to_json` wrote, also from the time when temperature was the only method.

    Raises:
        KeyError, TypeError: `kept` is not one.
    """
    if "slope" in kept:
        pairs = zip(kept["base_rate"], kept["slope"], strict=True)
        former = tuple(Temperature(base_rate, slope) for base_rate, slope in pairs)
        return Calibrator(former, ((),) * len(former), Abstention.never(len(former)))
    return Calibrator(
        tuple(curve_from_json(curve) for curve in kept["curves"]),
        tuple(tuple(Validation(**line) for line in table) for table in kept["cross_validation"]),
        Abstention.from_json(kept["abstention"]),
    )


def fit_calibrator(
    logits: NDArray[np.floating],
    y: NDArray[np.floating],
    base_rate: Floats,
    session: NDArray[np.integer],
    calibration: Calibration,
) -> Calibrator:
    """Fit a calibrator on rows that were not used in training.

    Args:
        logits: [row, horizon].
        y: [row, horizon] in {0, 1}; NaN where unknown, which is left out.
        base_rate: [horizon], share of ups among the training rows.
        session: [row], number of the session; rows of one session are dependent.
        calibration: The method and the target coverage.
    """
    fits = [
        _fit_horizon(z[known], label[known], session[known], float(rate), calibration)
        for z, label, rate in zip(logits.T.astype(np.float64), y.T.astype(np.float64), base_rate, strict=True)
        for known in [~np.isnan(label)]
    ]
    curves, tables = tuple(curve for curve, _ in fits), tuple(table for _, table in fits)
    calibrator = Calibrator(curves, tables, Abstention.never(len(curves)))
    p_up = np.where(np.isnan(y), np.nan, calibrator.p_up(logits))
    return Calibrator(curves, tables, fit_abstention(p_up, calibration.coverage))


def recentre(
    calibrator: Calibrator,
    logits: NDArray[np.floating],
    y: NDArray[np.floating],
    former: Floats,
    base_rate: Floats,
    calibration: Calibration,
) -> Calibrator:
    """Return the calibrator for a second fit: slopes kept, around its base rate, with thresholds of abstention for it.

    The logits of the second fit on rows that it has not learned are not known. Those of the first fit, moved by as much
    as the base rate has moved in logits, stand for them when the thresholds are set.

    Args:
        calibrator: That of the first fit.
        logits: Of the first fit on the calibrate range, [row, horizon].
        y: [row, horizon] in {0, 1}; NaN where unknown, which is left out.
        former: The first fit's base rate, [horizon].
        base_rate: The second fit's base rate, [horizon].
        calibration: The target coverage.
    """
    curves = tuple(
        replace(curve, base_rate=float(rate)) if isinstance(curve, Temperature) else curve
        for curve, rate in zip(calibrator.curves, base_rate, strict=True)
    )
    moved = [
        base_logit(float(new)) - base_logit(float(old)) for old, new in zip(former, base_rate, strict=True)
    ]
    around = Calibrator(curves, calibrator.tables, Abstention.never(len(curves)))
    p_up = np.where(np.isnan(y), np.nan, around.p_up(logits.astype(np.float64) + np.array(moved)))
    return replace(around, abstention=fit_abstention(p_up, calibration.coverage))


def _fit_horizon(
    logits: Floats, y: Floats, session: NDArray[np.integer], base_rate: float, calibration: Calibration
) -> tuple[Curve, tuple[Validation, ...]]:
    table: tuple[Validation, ...] = ()
    method: str = calibration.method
    if method == "auto":
        table = cross_validate(
            logits, y, session, base_rate=base_rate, gap=calibration.gap, prior=calibration.prior
        )
        method = choose_method(table)
    curve = fit_curve(
        method,
        logits,
        y,
        base_rate=base_rate,
        session=session,
        gap=calibration.gap,
        prior=calibration.prior,
    )
    return curve, table
