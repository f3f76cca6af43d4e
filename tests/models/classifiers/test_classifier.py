"""Logistic regression and boosting as models: calibrated, equal after load, told apart from what is not theirs."""

import subprocess
import sys
from itertools import permutations
from pathlib import Path
from typing import Any
from zipfile import ZipFile, ZipInfo

import numpy as np
import pytest
import skops.io

from models.classifiers.classifier import ClassifierEnsemble, ClassifierModel
from models.classifiers.saved import load
from models.classifiers.skops_files import read_estimator, save_estimator
from models.ensembles.model_files import METADATA, model_version
from models.errors import ModelError
from models.explain.shapley import attribute_columns, explain_classifier, measure_permutation
from models.learners import Classified, Constant

KINDS = ["boosting", "logistic"]
SYMBOLS, SESSIONS, LOOKBACK = 12, 700, 6
RANGES = {"train": range(400), "stop": range(401, 480), "calibrate": range(481, 560)}
TEST = slice(561, SESSIONS - 1)


def persistent(repeats: float = 0.65) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a market where the direction of a session is that of the one before with this probability."""
    rng = np.random.default_rng(10)
    flips = np.where(rng.random((SYMBOLS, SESSIONS)) < repeats, 1, -1)
    returns = np.cumprod(flips, axis=1) * rng.lognormal(-4, 0.5, flips.shape)
    x = np.stack([returns, rng.standard_normal(flips.shape)], axis=-1).astype(np.float32)
    y = np.full((SYMBOLS, SESSIONS, 1), np.nan, dtype=np.float32)
    y[:, :-1, 0] = returns[:, 1:] > 0
    mask = rng.random(flips.shape) < 0.995
    x[~mask] = 0
    return x, mask, y


def fit(kind: Any, mode: Any = "windowed", **further: Any) -> ClassifierEnsemble:
    x, mask, y = persistent()
    return ClassifierModel(kind, 0, LOOKBACK, mode).fit(x, mask, y, **RANGES, seed=3, **further)


@pytest.mark.parametrize("kind", KINDS)
def test_a_classifier_finds_what_is_there_and_its_probability_is_the_frequency(kind: Any) -> None:
    x, mask, y = persistent()
    fitted = fit(kind)
    made = fitted.predict(x, mask)
    known = ~np.isnan(made.p_up[:, TEST, 0])
    p, up = made.p_up[:, TEST, 0][known], y[:, TEST, 0][known]
    assert np.mean((p > 0.5) == (up > 0.5)) == pytest.approx(0.65, abs=0.04)
    assert p[p > 0.5].mean() == pytest.approx(up[p > 0.5].mean(), abs=0.06)
    np.testing.assert_array_equal(made.low, made.p_up)
    np.testing.assert_array_equal(made.high, made.p_up)


@pytest.mark.parametrize("mode", ["windowed", "sequence"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_loaded_model_forecasts_bit_for_bit_and_equal_fits_have_one_version(
    kind: Any, mode: Any, tmp_path: Path
) -> None:
    x, mask, y = persistent()
    fitted = fit(kind, mode, refit=y)
    fitted.save(tmp_path / "one", {"note": 1})
    fit(kind, mode, refit=y).save(tmp_path / "two", {"note": 1})
    assert model_version(tmp_path / "one") == model_version(tmp_path / "two")
    loaded, start = load(tmp_path / "one"), fitted.start or 0
    assert loaded.extra == {"note": 1}
    np.testing.assert_array_equal(
        fitted.predict(x[:, start:], mask[:, start:]).p_up, loaded.predict(x[:, start:], mask[:, start:]).p_up
    )
    loaded.save(tmp_path / "again")
    assert model_version(tmp_path / "again") == model_version(tmp_path / "one")


@pytest.mark.parametrize("kind", KINDS)
def test_a_forecast_reads_no_later_session_and_no_earlier_one_than_it_says(kind: Any) -> None:
    x, mask, _ = persistent()
    fitted, row = fit(kind), 600
    known = fitted.predict(x, mask).p_up
    changed = x.copy()
    changed[:, row + 1 :] += 1
    changed[:, : fitted.first_session(row)] += 1
    np.testing.assert_array_equal(fitted.predict(changed, mask).p_up[:, row], known[:, row])
    np.testing.assert_array_equal(
        fitted.predict(x[:, : row + 1], mask[:, : row + 1]).p_up[:, row], known[:, row]
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_second_fit_learns_the_last_rows_and_keeps_the_slope(kind: Any) -> None:
    x, mask, y = persistent()
    once, again = fit(kind), fit(kind, refit=y)
    np.testing.assert_array_equal(again.held_out.predict(x, mask).p_up, once.predict(x, mask).p_up)
    assert not np.array_equal(again.predict(x, mask).p_up, once.predict(x, mask).p_up, equal_nan=True)
    assert again.calibrator.curves[0].slope == once.calibrator.curves[0].slope  # type: ignore[union-attr]
    assert once.held_out is once


@pytest.mark.parametrize("kind", KINDS)
def test_attributions_add_up_to_the_logit(kind: Any) -> None:
    x, mask, _ = persistent()
    fitted = fit(kind)
    rows = np.flatnonzero(fitted.usable(mask))[-40:].astype(np.int32)
    found = explain_classifier(fitted, x, mask, rows)
    assert found.attribution.adds_up.all()
    moved = found.attribution.values.sum(axis=(1, 2))
    np.testing.assert_allclose(moved + found.baseline, found.whole, atol=1e-5)
    assert (
        np.abs(found.attribution.values[:, :, 0]).sum() > 5 * np.abs(found.attribution.values[:, :, 1]).sum()
    )


def test_attributions_of_trees_are_the_mean_effect_over_all_orders() -> None:
    from sklearn.ensemble import HistGradientBoostingClassifier

    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((400, 4)).astype(np.float32)
    labels = (inputs[:, 0] * inputs[:, 1] + inputs[:, 2] > rng.standard_normal(400)).astype(np.float32)
    trees = HistGradientBoostingClassifier(max_iter=5, max_leaf_nodes=8, early_stopping=False).fit(
        inputs, labels
    )
    centre, some = inputs.mean(axis=0), inputs[:5]
    expected = np.zeros((5, 4))
    for order in permutations(range(4)):
        at = np.tile(centre, (5, 1))
        for column in order:
            before = trees.decision_function(at)
            at[:, column] = some[:, column]
            expected[:, column] += (trees.decision_function(at) - before) / 24
    np.testing.assert_allclose(attribute_columns(Classified(trees), some, centre), expected, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_the_feature_that_is_used_costs_log_loss_when_permuted(kind: Any) -> None:
    x, mask, y = persistent()
    rises, sessions = measure_permutation(fit(kind), x, mask, y, judge=range(561, 690), seed=1)
    assert rises.shape == (2, len(sessions), 1)
    assert rises[0].mean() > 0.02
    assert abs(rises[1].mean()) < 0.005


def test_equal_labels_are_a_constant_that_can_be_saved(tmp_path: Path) -> None:
    save_estimator(Constant(0.7), tmp_path / "one.skops")
    assert read_estimator(tmp_path / "one.skops", "boosting") == Constant(0.7)


def test_a_file_with_another_class_or_damage_is_refused_by_name(tmp_path: Path) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import FunctionTransformer

    path = tmp_path / "output-1.skops"
    for foreign in (LogisticRegression().fit([[0], [1]], [0, 1]), FunctionTransformer(func=subprocess.run)):
        skops.io.dump(foreign, path)
        with pytest.raises(ModelError, match="refused") as refused:
            read_estimator(path, "boosting")
        assert refused.value.where == str(path)
    path.write_bytes(b"nothing")
    with pytest.raises(ModelError, match="refused"):
        read_estimator(path, "boosting")


def test_a_damaged_folder_is_told_as_one(tmp_path: Path) -> None:
    fit("logistic").save(tmp_path / "one")
    (tmp_path / "one" / "output-1.skops").write_bytes(b"x")
    with pytest.raises(ModelError, match="has changed since it was saved"):
        load(tmp_path / "one")
    (tmp_path / "one" / METADATA).write_text('{"files": {}}')
    with pytest.raises(ModelError, match="no description of a classifier"):
        load(tmp_path / "one")


def test_no_date_and_no_address_is_in_the_file(tmp_path: Path) -> None:
    fit("boosting").save(tmp_path / "one")
    with ZipFile(tmp_path / "one" / "output-1.skops") as saved:
        assert {part.date_time for part in saved.infolist()} == {ZipInfo("x").date_time}
        numbers = [int(name.partition(".")[0]) for name in saved.namelist() if name != "schema.json"]
    assert max(numbers) < 100_000


def test_a_saved_classifier_needs_no_tensorflow() -> None:
    code = (
        "import sys, models.classifiers.saved, models.explain.shapley; sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
