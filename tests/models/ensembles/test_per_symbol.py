"""Each symbol learns from itself alone, is forecast where it has a model, and survives the disk."""

import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from models.ensembles.model_files import METADATA, model_version
from models.ensembles.per_symbol import LEAST, SymbolModel
from models.ensembles.per_symbol_fitted import SymbolEnsemble
from models.ensembles.pooled import RecurrentModel
from models.errors import ModelError
from models.networks.network import Network
from models.serving.ensemble import load
from models.training.process_pool import LocalWorkers
from models.training.trainer import DivergenceError, Epoch, Training

pytestmark = [pytest.mark.slow, pytest.mark.own_process]

SYMBOLS, SESSIONS, LOOKBACK = 4, 700, 5
RANGES = {"train": range(500), "stop": range(501, 560), "calibrate": range(561, 640)}
TEST = slice(641, SESSIONS - 1)
YOUNG = 3
"""The symbol that is listed too late for a model."""

Block = tuple[np.ndarray, np.ndarray, np.ndarray]


def block() -> Block:
    """Return symbols that mostly repeat, mostly turn, toss a coin with more heads, and a young listing."""
    rng = np.random.default_rng(5)
    repeats = np.array([0.9, 0.1, 0.5, 0.9])[:, None]
    turns = np.where(rng.random((SYMBOLS, SESSIONS)) < repeats, 1, -1)
    returns = np.cumprod(turns, axis=1) * rng.lognormal(-4, 0.5, turns.shape)
    returns[2] = np.where(rng.random(SESSIONS) < 0.7, 1, -1) * 0.01
    x = np.stack([returns * [[1], [50], [1], [1]], rng.standard_normal(turns.shape)], axis=-1)
    y = np.full((SYMBOLS, SESSIONS, 1), np.nan, dtype=np.float32)
    y[:, :-1, 0] = returns[:, 1:] > 0
    mask = np.ones((SYMBOLS, SESSIONS), dtype=bool)
    mask[YOUNG, :450] = False
    x[~mask] = 0
    return x.astype(np.float32), mask, y


BLOCK = block()


def recipe(mode: str = "windowed", epochs: int = 15, **options: object) -> SymbolModel:
    network = Network("gru", features=2, lookback=LOOKBACK, units=6, mode=mode)  # type: ignore[arg-type]
    training = Training(epochs=epochs, learning_rate=1e-2, batch_size=64, chunk=60, patience=4)
    return SymbolModel(network, training, 2, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def workers() -> Iterator[LocalWorkers]:
    with LocalWorkers(2) as processes:
        yield processes


@pytest.fixture(scope="module")
def told() -> list[Epoch]:
    return []


@pytest.fixture(scope="module")
def fitted(told: list[Epoch]) -> SymbolEnsemble:
    return recipe(progress=told.append).fit(*BLOCK, **RANGES, seed=7)


@pytest.fixture
def folder(fitted: SymbolEnsemble, tmp_path: Path) -> Path:
    fitted.save(tmp_path / "model", extra={"symbols": ["A", "B", "C", "D"]})
    return tmp_path / "model"


def digest(ensemble: SymbolEnsemble) -> str:
    arrays = [array for each in ensemble.models for weights in each.weights for array in weights]
    return sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def test_symbols_that_behave_in_opposite_ways_are_both_found(fitted: SymbolEnsemble) -> None:
    x, mask, y = BLOCK
    right = (fitted.predict(x, mask).p_up[:, TEST, 0] > 0.5) == (y[:, TEST, 0] > 0.5)
    assert right[0].mean() > 0.75
    assert right[1].mean() > 0.75
    assert fitted.predict(x, mask).p_up[2, TEST].mean() == pytest.approx(0.7, abs=0.07)


def test_a_symbols_model_is_that_of_the_symbol_alone_bit_for_bit(fitted: SymbolEnsemble) -> None:
    x, mask, y = (part[1:2] for part in BLOCK)
    alone = recipe().fit(x, mask, y, **RANGES, seed=7)
    assert digest(alone) == digest(SymbolEnsemble(**{**vars(fitted), "models": fitted.models[1:2]}))
    network, training = fitted.network, fitted.training
    pooled = RecurrentModel(network, training, 2).fit(x, mask, y, **RANGES, seed=7)
    assert alone.predict(x, mask).p_up == pytest.approx(pooled.predict(x, mask).p_up, abs=1e-6, nan_ok=True)


def test_processes_change_no_bit_of_any_symbol(
    fitted: SymbolEnsemble, workers: LocalWorkers, tmp_path: Path
) -> None:
    there = recipe(executor=workers, folder=tmp_path).fit(*BLOCK, **RANGES, seed=7)
    assert digest(there) == digest(fitted)
    assert there.history == fitted.history
    assert len(workers.pids) == 2


def test_a_symbol_with_too_little_history_is_left_out_with_the_reason(fitted: SymbolEnsemble) -> None:
    x, mask, _ = BLOCK
    assert fitted.left_out == {YOUNG: f"46 labels in the train range, and {LEAST['train']} are the least"}
    assert np.isnan(fitted.base_rate[YOUNG]).all()
    assert np.isnan(fitted.predict(x, mask).p_up[YOUNG]).all()
    assert np.isfinite(fitted.predict(x, mask).p_up[:YOUNG, LOOKBACK - 1 :]).all()
    with pytest.raises(ModelError, match="no symbol has labels enough"):
        recipe().fit(*(part[YOUNG:] for part in BLOCK), **RANGES, seed=7)


def test_a_block_in_another_order_is_forecast_by_each_symbols_own_model(fitted: SymbolEnsemble) -> None:
    x, mask, _ = BLOCK
    straight = fitted.predict(x, mask).p_up
    order = [2, -1, 0]
    turned = fitted.arranged(order).predict(x[[2, 1, 0]], mask[[2, 1, 0]])
    assert np.array_equal(turned.p_up[[0, 2]], straight[[2, 0]], equal_nan=True)
    assert np.isnan(turned.p_up[1]).all()
    with pytest.raises(ModelError, match="arranged for 4"):
        fitted.predict(x[:2], mask[:2])


@pytest.mark.parametrize("mode", ["windowed", "sequence"])
def test_the_future_changes_no_forecast_of_a_symbol(mode: str) -> None:
    x, mask, y = BLOCK
    ensemble = recipe(mode, epochs=2).fit(x, mask, y, **RANGES, seed=7)
    changed = x.copy()
    changed[:, 660:] = np.random.default_rng(13).normal(0, 100, changed[:, 660:].shape)
    before, after = ensemble.predict(x, mask).p_up, ensemble.predict(changed, mask).p_up
    assert np.array_equal(before[:, :660], after[:, :660], equal_nan=True)
    assert not np.array_equal(before[:, 660], after[:, 660], equal_nan=True)
    shut = y.copy()
    shut[:, 641:] = 1
    again = recipe(mode, epochs=2).fit(x, mask, shut, **RANGES, seed=7)
    assert digest(again) == digest(ensemble)
    assert again.base_rate.tobytes() == ensemble.base_rate.tobytes()


def test_every_member_is_told_and_the_kept_epochs_are_few(fitted: SymbolEnsemble, told: list[Epoch]) -> None:
    assert {epoch.member for epoch in told} == set(range(1, 3 * 2 + 1))
    assert {epoch.members for epoch in told} == {6}
    assert len(fitted.history) <= 2 * fitted.training.epochs
    first = [epoch.loss for epoch in told if epoch.epoch == 1 and epoch.member % 2 == 1]
    assert fitted.history[0].loss == pytest.approx(np.mean(first))


def test_a_loaded_model_forecasts_the_same_and_is_saved_with_the_same_version_each_time(
    fitted: SymbolEnsemble, folder: Path
) -> None:
    x, mask, _ = BLOCK
    loaded = load(folder)
    assert loaded.predict(x, mask).low == pytest.approx(fitted.predict(x, mask).low, abs=1e-6, nan_ok=True)
    for name in ("places", "left_out", "network"):
        assert getattr(loaded, name) == getattr(fitted, name)
    assert loaded.base_rate.tobytes() == fitted.base_rate.tobytes()
    order = [2, -1, 0]
    turned = loaded.arranged(order).predict(x[[2, 1, 0]], mask[[2, 1, 0]])
    assert turned.p_up[[0, 2]] == pytest.approx(loaded.predict(x, mask).p_up[[2, 0]], abs=1e-12, nan_ok=True)
    assert np.isnan(turned.p_up[1]).all()
    fitted.save(folder.with_name("again"), extra=loaded.extra)
    assert model_version(folder.with_name("again")) == model_version(folder)


def reseal(folder: Path) -> None:
    metadata = json.loads((folder / METADATA).read_text())
    metadata["files"]["symbols.npz"] = sha256((folder / "symbols.npz").read_bytes()).hexdigest()
    (folder / METADATA).write_text(json.dumps(metadata))


def test_weights_that_bring_objects_or_are_damaged_are_refused(folder: Path) -> None:
    whole = (folder / "symbols.npz").read_bytes()
    (folder / "symbols.npz").write_bytes(whole[:200])
    with pytest.raises(ModelError, match="changed since it was saved"):
        load(folder)
    reseal(folder)
    with pytest.raises(ModelError, match="refused"):
        load(folder)
    np.savez(folder / "symbols.npz", mean=np.array([{"evil": print}], dtype=object))
    reseal(folder)
    with pytest.raises(ModelError, match=r"refused[^\n]*allow_pickle"):
        load(folder)


def test_a_symbol_whose_training_diverges_is_named_by_its_row(tmp_path: Path) -> None:
    wild = SymbolModel(
        Network("gru", features=2, lookback=LOOKBACK, units=6), Training(epochs=2, learning_rate=3e38), 2
    )
    with pytest.raises(DivergenceError) as failed:
        wild.fit(*BLOCK, **RANGES, seed=7)
    assert (failed.value.row, failed.value.seed) == (0, 7)
