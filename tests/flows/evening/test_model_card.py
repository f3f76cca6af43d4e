"""The model card's lines on calibration and abstention."""

import numpy as np
import pytest
from scipy.special import expit

from flows.evening.model_card import describe_calibration
from flows.evening.record_scores import score_record
from models.calibration.calibrator import Calibration, Calibrator, fit_calibrator
from tests.pipeline.report.test_files import settled_record
from tests.support.made_sequences import directions

pytestmark = pytest.mark.slow  # flows bring Prefect

RNG = np.random.default_rng(5)
SESSION = np.repeat(np.arange(100), 20)


def card(calibrator: Calibrator | dict[str, object], *horizons: int) -> dict[str, str]:
    kept = calibrator.to_json() if isinstance(calibrator, Calibrator) else calibrator
    return describe_calibration({"calibrator": kept}, directions(*horizons))


def fitted(calibration: Calibration, horizons: int = 1) -> Calibrator:
    logits = RNG.normal(0, 1, (2000, horizons))
    y = (RNG.random(logits.shape) < expit(0.5 * logits)).astype(float)
    return fit_calibrator(logits, y, np.full(horizons, 0.5), SESSION, calibration)


def test_the_default_is_a_slope_with_a_prior_and_a_direction_for_every_forecast() -> None:
    calibrator = fitted(Calibration())
    (curve,) = calibrator.curves
    assert card(calibrator, 1) == {
        "calibration": f"slope {curve.slope:.3g}, with a prior",  # type: ignore[union-attr]
        "direction": "issued for every forecast, up above 50%",
    }


@pytest.mark.parametrize(
    ("method", "word"),
    [("temperature", "temperature "), ("platt", "Platt's, slope 0."), ("isotonic", "isotonic, ")],
)
def test_other_methods_have_their_name(method: str, word: str) -> None:
    assert card(fitted(Calibration(method)), 1)["calibration"].startswith(word)  # type: ignore[arg-type]


def test_the_comparison_lists_losses_errors_n_and_the_choice() -> None:
    lines = card(fitted(Calibration("auto")), 1)["compared by cross-validation"]
    assert lines.count("log loss") == 1
    assert lines.count("standard error") == 3
    assert lines.count("(least)") == 1
    assert lines.endswith("n 2,000 over 100 sessions; chosen: bayes")


def test_the_threshold_comes_with_its_target_and_achieved_coverage() -> None:
    calibrator = fitted(Calibration(coverage=0.6))
    threshold = 100 * calibrator.abstention.threshold[0]
    assert card(calibrator, 1)["direction"] == (
        f"issued at {threshold:.2f} points or more from 50%: 60.0% of n 2,000 calibration rows (target 60.0%)"
    )


def test_tied_forecasts_are_mentioned() -> None:
    z = np.zeros((2000, 1))
    calibrator = fit_calibrator(
        z, np.tile([[1.0], [0.0]], (1000, 1)), np.array([0.52]), SESSION, Calibration(coverage=0.6)
    )
    assert "100.0% of n 2,000" in card(calibrator, 1)["direction"]
    assert "100.0% of them are tied at the threshold" in card(calibrator, 1)["direction"]


def test_horizons_are_listed_apart_and_an_old_model_is_described() -> None:
    lines = card(fitted(Calibration(coverage=0.5), horizons=2), 1, 5)
    assert lines["calibration"].startswith("next session: slope ")
    assert "; 5 sessions ahead: slope " in lines["calibration"]
    old = card({"base_rate": [0.53], "slope": [0.0]}, 1)
    assert (
        old["calibration"]
        == "temperature infinite: on the calibration set the network was no better than the base rate"
    )
    assert old["direction"] == "issued for every forecast, up above 50%"


def test_models_of_symbols_are_counted_by_method_with_the_range_of_their_thresholds() -> None:
    own = [fitted(Calibration(method, coverage=0.6)) for method in ("temperature", "isotonic", "temperature")]
    lines = describe_calibration({"calibrators": [each.to_json() for each in own]}, directions(1))
    assert lines["calibration"] == "per symbol: 2 by temperature, 1 by isotonic"
    low, high = (100 * end([each.abstention.threshold[0] for each in own]) for end in (min, max))
    assert lines["direction"] == (
        f"issued at {low:.2f} to {high:.2f} points or more from 50%, per symbol (target 60.0%)"
    )
    always = describe_calibration({"calibrators": [fitted(Calibration()).to_json()] * 2}, [1])
    assert always["direction"] == "issued for every forecast, up above 50%"


def test_the_record_is_scored_once_more_where_a_direction_was_issued() -> None:
    record = settled_record("live")
    record.loc[::3, "direction"] = "none"
    scores = score_record(record, "gru").set_index(["group", "model", "metric"])
    assert {group for group, _, _ in scores.index} == {"live", "live, sides taken"}
    n = scores["n"].xs("log_loss", level="metric").xs("gru", level="model")
    assert n.to_dict() == {
        "live": len(record),
        "live, sides taken": int((record["direction"] != "none").sum()),
    }
    assert set(score_record(settled_record("live"), "gru")["group"]) == {"live"}
