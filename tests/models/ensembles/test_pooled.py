"""The ensemble finds what is there, claims nothing on noise, sees no future, and survives the disk."""

import json
import random
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from zipfile import ZipFile

import keras
import numpy as np
import pytest
from scipy.stats import binom

from models.ensembles.agreement import BAND
from models.ensembles.model_files import METADATA, model_version
from models.ensembles.pooled import RecurrentEnsemble, RecurrentModel
from models.errors import ModelError
from models.networks.network import Network
from models.networks.recurrent import build_deployable
from models.serving.ensemble import load
from models.training.trainer import Epoch, Training
from models.windows import usable_rows

pytestmark = [pytest.mark.slow, pytest.mark.own_process]

SYMBOLS, SESSIONS, LOOKBACK = 20, 900, 6
RANGES = {"train": range(500), "stop": range(501, 600), "calibrate": range(601, 700)}
TEST = slice(701, SESSIONS - 1)
REPEATS = 0.6

Block = tuple[np.ndarray, np.ndarray, np.ndarray]


def persistent(repeats: float, seed: int = 10) -> Block:
    """Return a market where the direction of a session is that of the one before with this probability."""
    rng = np.random.default_rng(seed)
    flips = np.where(rng.random((SYMBOLS, SESSIONS)) < repeats, 1, -1)
    returns = np.cumprod(flips, axis=1) * rng.lognormal(-4, 0.5, flips.shape)
    x = np.stack([returns, rng.standard_normal(flips.shape)], axis=-1).astype(np.float32)
    y = np.full((SYMBOLS, SESSIONS, 1), np.nan, dtype=np.float32)
    y[:, :-1, 0] = returns[:, 1:] > 0
    mask = rng.random(flips.shape) < 0.999
    x[~mask] = 0
    return x, mask, y


def model(
    members: int = 2, epochs: int = 12, progress: Callable[[Epoch], None] | None = None
) -> RecurrentModel:
    network = Network("gru", features=2, lookback=LOOKBACK, units=8)
    return RecurrentModel(network, Training(epochs=epochs, learning_rate=5e-3, patience=3), members, progress)


def log_loss(p_up: np.ndarray, y: np.ndarray) -> np.ndarray:
    return -np.where(y > 0.5, np.log(p_up), np.log(1 - p_up))


MARKET = persistent(REPEATS)


@pytest.fixture(scope="module")
def told() -> list[Epoch]:
    return []


@pytest.fixture(scope="module")
def fitted(told: list[Epoch]) -> RecurrentEnsemble:
    return model(members=3, progress=told.append).fit(*MARKET, **RANGES, seed=7)


@pytest.fixture(scope="module")
def recipe() -> RecurrentModel:
    """Two members for two epochs, compiled once."""
    return model(epochs=2)


def test_a_second_fit_learns_from_all_ranges_and_keeps_slope_and_first_fit() -> None:
    x, mask, y = persistent(REPEATS)
    refit = y.copy()
    refit[:, 650:700] = np.nan
    recipe = model(epochs=3)
    once = recipe.fit(x, mask, y, **RANGES, seed=7)
    twice = recipe.fit(x, mask, y, **RANGES, seed=7, refit=refit)
    assert once.held_out is once
    held = twice.held_out
    assert np.array_equal(held.predict(x, mask).p_up, once.predict(x, mask).p_up, equal_nan=True)
    known = usable_rows(mask, LOOKBACK, "windowed")[:, :700, None] & ~np.isnan(refit[:, :700])
    assert twice.base_rate == pytest.approx(refit[:, :700][known].mean())
    assert [curve.slope for curve in twice.calibrator.curves] == [c.slope for c in once.calibrator.curves]
    assert [curve.base_rate for curve in twice.calibrator.curves] == twice.base_rate.tolist()
    assert twice.calibrator.abstention.achieved == once.calibrator.abstention.achieved
    assert [e.stop_loss for e in twice.history] == [e.stop_loss for e in once.history]
    # What the second fit must not learn from, and all later labels, change no weight of it.
    other = refit.copy()
    other[:, 700:] = 1 - other[:, 700:]
    again = recipe.fit(x, mask, y, **RANGES, seed=7, refit=other)
    for one, same, first in zip(
        twice.members.weights, again.members.weights, once.members.weights, strict=True
    ):
        assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
        assert any(not np.array_equal(a, b) for a, b in zip(one, first, strict=True))
    assert (once.learned_before, twice.learned_before) == (600, 700)


@pytest.fixture
def folder(fitted: RecurrentEnsemble, tmp_path: Path) -> Path:
    fitted.save(tmp_path / "model", extra={"trained_through": "2018-12-31"})
    return tmp_path / "model"


def test_a_planted_direction_is_forecast_as_well_as_can_be(fitted: RecurrentEnsemble) -> None:
    x, mask, y = MARKET
    p_up = fitted.predict(x, mask).p_up[:, TEST][usable_rows(mask, LOOKBACK, "windowed")[:, TEST]]
    label = y[:, TEST][usable_rows(mask, LOOKBACK, "windowed")[:, TEST]]
    low, high = binom.interval(0.99, len(label), REPEATS)
    assert low <= np.sum((p_up > 0.5) == (label > 0.5)) <= high
    entropy = -REPEATS * np.log(REPEATS) - (1 - REPEATS) * np.log(1 - REPEATS)
    assert log_loss(p_up, label).mean() == pytest.approx(entropy, abs=0.01)
    assert np.abs(p_up - 0.5).mean() == pytest.approx(REPEATS - 0.5, abs=0.02)


@pytest.mark.parametrize("seed", [11, 12])
def test_on_noise_the_forecast_stays_at_the_base_rate(recipe: RecurrentModel, seed: int) -> None:
    x, mask, y = persistent(0.5, seed)
    noise = recipe.fit(x, mask, y, **RANGES, seed=seed)
    p_up = noise.predict(x, mask).p_up[:, TEST]
    assert np.nanmean(np.abs(p_up - noise.base_rate)) < 0.01
    gain = np.nanmean(
        log_loss(np.full_like(p_up, noise.base_rate[0]), y[:, TEST]) - log_loss(p_up, y[:, TEST]), axis=0
    )
    assert gain.mean() < 2 * gain.std() / np.sqrt(gain.size) + 1e-12


def test_the_same_seed_gives_the_same_forecasts_and_files_bit_for_bit(
    recipe: RecurrentModel, tmp_path: Path
) -> None:
    x, mask, y = MARKET
    fits = [model(epochs=2).fit(x, mask, y, **RANGES, seed=7)]
    random.seed(99)
    np.random.seed(98)
    keras.utils.set_random_seed(97)
    other = recipe.fit(x, mask, y, **RANGES, seed=8).predict(x, mask)
    fits.append(recipe.fit(x, mask, y, **RANGES, seed=7))
    first, second = (fit.predict(x, mask) for fit in fits)
    assert np.array_equal(first.p_up, second.p_up, equal_nan=True)
    assert np.array_equal(first.high, second.high, equal_nan=True)
    assert not np.array_equal(first.p_up, other.p_up, equal_nan=True)
    for number, fit in enumerate(fits):
        fit.save(tmp_path / str(number))
    assert model_version(tmp_path / "0") == model_version(tmp_path / "1")


def test_a_member_is_the_same_alone_and_in_an_ensemble(fitted: RecurrentEnsemble) -> None:
    alone = model(members=1).fit(*MARKET, **RANGES, seed=7 + 2)
    assert fitted.seeds == (7, 8, 9)
    for one, other in zip(alone.members.weights[0], fitted.members.weights[2], strict=True):
        assert np.array_equal(one, other)


def test_the_future_changes_no_forecast(fitted: RecurrentEnsemble) -> None:
    x, mask, _ = MARKET
    changed = x.copy()
    changed[:, 800:] = np.random.default_rng(13).normal(0, 100, changed[:, 800:].shape)
    before, after = fitted.predict(x, mask).p_up, fitted.predict(changed, mask).p_up
    assert np.array_equal(before[:, :800], after[:, :800], equal_nan=True)
    assert not np.array_equal(before[:, 800], after[:, 800], equal_nan=True)


def test_what_follows_calibration_changes_no_fit(recipe: RecurrentModel) -> None:
    x, mask, y = (block.copy() for block in MARKET)
    before = recipe.fit(x, mask, y, **RANGES, seed=7)
    x[:, 700:], y[:, 700:] = 50, 1
    after = recipe.fit(x, mask, y, **RANGES, seed=7)
    assert before.calibrator == after.calibrator
    assert before.history == after.history


def test_the_last_row_is_the_same_from_its_own_window_alone(fitted: RecurrentEnsemble) -> None:
    x, mask, _ = MARKET
    full, alone = fitted.predict(x, mask), fitted.predict(x[:, -LOOKBACK:], mask[:, -LOOKBACK:])
    assert alone.p_up[:, -1] == pytest.approx(full.p_up[:, -1], abs=1e-6, nan_ok=True)
    single = fitted.predict(x[3:4, -LOOKBACK:], mask[3:4, -LOOKBACK:])
    assert single.p_up[0, -1] == pytest.approx(full.p_up[3, -1], abs=1e-6)


def test_only_rows_with_a_full_window_are_forecast_and_the_band_holds_p_up(fitted: RecurrentEnsemble) -> None:
    x, mask, _ = MARKET
    prediction = fitted.predict(x, mask)
    usable = usable_rows(mask, LOOKBACK, "windowed")
    assert np.array_equal(~np.isnan(prediction.p_up[:, :, 0]), usable)
    assert np.all(prediction.low[usable] <= prediction.p_up[usable])
    assert np.all(prediction.p_up[usable] <= prediction.high[usable])
    assert np.isnan(fitted.predict(x[:, :3], mask[:, :3]).p_up).all()


def test_the_band_is_the_spread_of_the_members_around_their_mean_logit(fitted: RecurrentEnsemble) -> None:
    x, mask, _ = MARKET
    one = build_deployable(fitted.network, fitted.members.scaling)
    logits = []
    for weights in fitted.members.weights:
        one.set_weights(weights)
        logits.append(float(one(x[4:5, 40 - LOOKBACK + 1 : 41])[0, 0]))
    base = np.log(fitted.base_rate[0] / (1 - fitted.base_rate[0]))
    centre, reach = np.mean(logits), BAND * np.std(logits, ddof=1)
    expected = [
        base + (z - base) / fitted.calibrator.curves[0].temperature
        for z in (centre - reach, centre, centre + reach)
    ]
    prediction = fitted.predict(x, mask)
    found = [block[4, 40, 0] for block in (prediction.low, prediction.p_up, prediction.high)]
    assert found == pytest.approx(1 / (1 + np.exp(-np.array(expected))), abs=1e-5)


def test_every_epoch_of_every_member_is_told_and_kept(fitted: RecurrentEnsemble, told: list[Epoch]) -> None:
    assert told == fitted.history
    counts = [sum(epoch.member == member for epoch in told) for member in (1, 2, 3)]
    assert [(epoch.member, epoch.epoch) for epoch in told] == [
        (member, number) for member, count in enumerate(counts, 1) for number in range(1, count + 1)
    ]


def test_two_horizons_are_forecast_side_by_side() -> None:
    x, mask, y = MARKET
    both = np.concatenate([y, 1 - y], axis=-1)
    network = Network("gru", features=2, lookback=LOOKBACK, units=8, horizons=2)
    ensemble = RecurrentModel(network, Training(epochs=4, learning_rate=5e-3), 1).fit(
        x, mask, both, **RANGES, seed=7
    )
    p_up = ensemble.predict(x, mask).p_up
    assert p_up.shape == both.shape
    assert ensemble.base_rate.sum() == pytest.approx(1)
    assert np.nanmean((p_up[:, TEST, 0] > 0.5) != (p_up[:, TEST, 1] > 0.5)) > 0.9


def test_a_model_loaded_in_another_process_forecasts_the_same(
    fitted: RecurrentEnsemble, folder: Path
) -> None:
    x, mask, _ = MARKET
    np.savez(folder.parent / "panel.npz", x=x, mask=mask)
    code = (
        "import sys, numpy as np; from pathlib import Path; from models.serving.ensemble import load\n"
        "home = Path(sys.argv[1]); panel = np.load(home / 'panel.npz')\n"
        "np.save(home / 'p_up.npy', load(home / 'model').predict(panel['x'], panel['mask']).p_up)\n"
        "print('tensorflow' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder.parent)], check=True, capture_output=True, text=True
    )
    p_up = np.load(folder.parent / "p_up.npy")
    assert p_up == pytest.approx(fitted.predict(x, mask).p_up, abs=1e-6, nan_ok=True)
    assert np.array_equal(p_up, load(folder).predict(x, mask).p_up, equal_nan=True)
    assert done.stdout == "False\n"


def test_a_loaded_model_is_what_was_saved(fitted: RecurrentEnsemble, folder: Path) -> None:
    loaded = load(folder)
    assert loaded.extra == {"trained_through": "2018-12-31"}
    assert (loaded.network, loaded.calibrator) == (fitted.network, fitted.calibrator)
    assert loaded.base_rate.tolist() == fitted.base_rate.tolist()
    version = model_version(folder)
    loaded.predict(*MARKET[:2])
    assert model_version(folder) == version


@pytest.mark.parametrize("file", ["member-2.keras", METADATA])
def test_a_missing_or_damaged_file_is_named(folder: Path, file: str) -> None:
    (folder / file).write_bytes((folder / file).read_bytes()[:100])
    with pytest.raises(ModelError) as damaged:
        load(folder)
    assert str(folder / file) in str(damaged.value)
    (folder / file).unlink()
    with pytest.raises(ModelError) as missing:
        load(folder)
    assert str(folder / file) in str(missing.value)


def reseal(folder: Path, file: str) -> None:
    """Make the metadata vouch for a file that was replaced."""
    metadata = json.loads((folder / METADATA).read_text())
    metadata["files"][file] = sha256((folder / file).read_bytes()).hexdigest()
    (folder / METADATA).write_text(json.dumps(metadata))


def test_a_network_that_brings_code_is_refused(folder: Path) -> None:
    window = keras.Input((LOOKBACK, 2))
    evil = keras.Model(window, keras.layers.Lambda(lambda x: x[:, -1, :1], output_shape=(1,))(window))
    evil.save(folder / "member-2.keras")
    reseal(folder, "member-2.keras")
    with pytest.raises(ModelError, match="refused") as refused:
        load(folder)
    assert "member-2.keras" in str(refused.value)
    assert "Lambda" in str(refused.value)


def test_a_file_that_is_no_network_is_refused(folder: Path) -> None:
    with ZipFile(folder / "member-1.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    reseal(folder, "member-1.keras")
    with pytest.raises(ModelError, match=r"member-1\.keras"):
        load(folder)


def test_metadata_of_another_kind_is_refused(folder: Path) -> None:
    metadata = json.loads((folder / METADATA).read_text())
    metadata["network"] = {"kind": "gru", "colour": "blue"}
    (folder / METADATA).write_text(json.dumps(metadata))
    with pytest.raises(ModelError, match=r"no description of an ensemble[^\n]*colour"):
        load(folder)


def test_a_feature_block_of_another_width_is_refused(fitted: RecurrentEnsemble) -> None:
    x, mask, _ = MARKET
    with pytest.raises(ModelError, match="expected"):
        fitted.predict(np.concatenate([x, x], axis=-1), mask)
