"""The calibrator of a model: every horizon on its own, one description, kept as numbers."""

import json

import numpy as np
import pytest
from scipy.special import expit

from models.calibration.abstention import Abstention
from models.calibration.calibrator import Calibration, Calibrator, fit_calibrator, read_calibrator, recentre
from models.calibration.curves import METHODS, name_curve
from models.calibration.temperature import Temperature, fit_slope

RNG = np.random.default_rng(4)
SESSION = np.repeat(np.arange(100), 5)


def rows(slopes: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    logits = RNG.normal(0, 1, (500, len(slopes)))
    return logits.astype(np.float32), (RNG.random(logits.shape) < expit(logits * slopes)).astype(np.float32)


def test_horizons_are_calibrated_apart_and_unknown_labels_are_left_out() -> None:
    logits, y = rows((0.3, 0.9))
    y[::3, 1] = np.nan
    known = ~np.isnan(y[:, 1])
    calibrator = fit_calibrator(logits, y, np.array([0.5, 0.45]), SESSION, Calibration("temperature"))
    assert calibrator.curves == (
        Temperature(0.5, fit_slope(logits[:, 0], y[:, 0], 0.5)),
        Temperature(0.45, fit_slope(logits[known, 1], y[known, 1], 0.45)),
    )
    assert calibrator.tables == ((), ())


def test_horizons_choose_their_method_apart() -> None:
    logits = RNG.normal(0, 1, (8000, 2))
    truth = np.stack([expit(0.5 * logits[:, 0]), np.where(logits[:, 1] > 1, 0.9, 0.4)], axis=1)
    y = (RNG.random(logits.shape) < truth).astype(float)
    session = np.repeat(np.arange(200), 40)
    calibrator = fit_calibrator(logits, y, np.array([0.5, 0.48]), session, Calibration("auto"))
    assert [name_curve(curve) for curve in calibrator.curves] == ["bayes", "isotonic"]
    assert [[line.method for line in table] for table in calibrator.tables] == [list(METHODS)] * 2


@pytest.mark.parametrize("method", [*METHODS, "auto"])
def test_a_band_around_a_logit_stays_around_its_probability(method: str) -> None:
    logits, y = rows((0.6,))
    calibrator = fit_calibrator(logits, y, np.array([0.5]), SESSION, Calibration(method))
    middle, reach = RNG.normal(0, 3, (2000, 1)), np.abs(RNG.normal(0, 1, (2000, 1)))
    low, p_up, high = (calibrator.p_up(z) for z in (middle - reach, middle, middle + reach))
    assert np.all((low <= p_up) & (p_up <= high))
    assert p_up.shape == middle.shape


@pytest.mark.parametrize("method", [*METHODS, "auto"])
def test_what_is_kept_as_numbers_comes_back_whole(method: str) -> None:
    logits, y = rows((0.6, 0.2))
    calibration = Calibration(method, coverage=0.6)
    calibrator = fit_calibrator(logits, y, np.array([0.5, 0.5]), SESSION, calibration)
    assert read_calibrator(json.loads(json.dumps(calibrator.to_json(), allow_nan=False))) == calibrator


def test_a_model_saved_before_there_were_methods_forecasts_the_same_and_never_abstains() -> None:
    kept = {"base_rate": [0.53, 0.55], "slope": [0.4, 0.0]}
    calibrator = read_calibrator(kept)
    assert calibrator == Calibrator(
        (Temperature(0.53, 0.4), Temperature(0.55, 0.0)), ((), ()), Abstention.never(2)
    )
    base = np.log(0.53 / 0.47)
    p_up = calibrator.p_up(np.array([[1.0, 1.0]]))
    assert p_up == pytest.approx(np.array([[expit(base + 0.4 * (1 - base)), 0.55]]))
    assert calibrator.abstention.threshold == (0.0, 0.0)


def test_the_coverage_is_set_on_the_calibrated_probabilities() -> None:
    logits, y = rows((0.6,))
    calibrator = fit_calibrator(logits, y, np.array([0.5]), SESSION, Calibration(coverage=0.6))
    takes_a_side = np.abs(calibrator.p_up(logits) - 0.5) >= calibrator.abstention.threshold
    assert takes_a_side.mean() == pytest.approx(0.6)
    assert calibrator.abstention.achieved == pytest.approx((0.6,))


@pytest.mark.parametrize("moved", [0.5, 0.52, 0.55])
def test_a_second_fit_around_another_base_rate_keeps_its_slopes_and_its_coverage(moved: float) -> None:
    logits, y = rows((0.3,))
    calibration, former = Calibration(coverage=0.5), np.array([0.53])
    base = np.log(0.53 / 0.47)
    logits = base + 0.03 * logits
    first = fit_calibrator(logits, y, former, SESSION, calibration)
    second = recentre(first, logits, y, former, np.array([moved]), calibration)
    assert [curve.slope for curve in second.curves] == [curve.slope for curve in first.curves]  # type: ignore[union-attr]
    assert [curve.base_rate for curve in second.curves] == [moved]  # type: ignore[union-attr]
    # Forecasts of a network that was fitted around the new base rate: about half of them give a direction.
    again = second.p_up(logits - base + np.log(moved / (1 - moved)))
    issued = np.abs(again - 0.5) >= second.abstention.threshold[0]
    assert issued.mean() == pytest.approx(0.5, abs=0.01)
