"""Sequence mode: many labels per run, nothing from the future, nothing from invalid sessions."""

from pathlib import Path

import keras
import numpy as np
import pytest

from models.baselines import baselines
from models.ensembles.members import Members
from models.ensembles.pooled import RecurrentEnsemble, RecurrentModel
from models.errors import ModelError
from models.networks.network import Kind, Network
from models.networks.recurrent import build, build_deployable, count_parameters
from models.scaling import Scaling
from models.serving.ensemble import load
from models.training.trainer import Examples, Trainer, Training
from models.windows import RUN_IN, closed_up, cut_into_chunks, example_spans, usable_rows

pytestmark = [pytest.mark.slow, pytest.mark.own_process]

SYMBOLS, SESSIONS, LOOKBACK = 6, 300, 5
RANGES = {"train": range(180), "stop": range(181, 220), "calibrate": range(221, 260)}
NO_SCALE = Scaling(np.zeros(2, np.float32), np.ones(2, np.float32))
EXTRAS = [{}, {"layers": 2}, {"convolution": 3}, {"attention": True}, {"convolution": 3, "attention": True}]


def market(seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return noise with labels; some sessions are not valid, and one symbol is listed late."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((SYMBOLS, SESSIONS, 2)).astype(np.float32)
    y = (rng.random((SYMBOLS, SESSIONS, 1)) < 0.5).astype(np.float32)
    y[:, -1] = np.nan
    mask = rng.random((SYMBOLS, SESSIONS)) < 0.95
    mask[3, :120] = False
    x[~mask] = 0
    return x, mask, y


def drawn(model: keras.Model, seed: int = 2) -> list[np.ndarray]:
    """Return weights for a network, none of them zero."""
    rng = np.random.default_rng(seed)
    return [rng.normal(0, 0.5, weight.shape).astype(np.float32) for weight in model.get_weights()]


def described(kind: Kind = "gru", **extras: object) -> Network:
    return Network(kind, features=2, lookback=LOOKBACK, units=4, mode="sequence", **extras)  # type: ignore[arg-type]


def members(network: Network, seed: int = 2) -> Members:
    return Members(network, NO_SCALE, [drawn(build(network, seed=0), seed)])


def panel_of(run: Members, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return logits [symbol, session], NaN where there is no forecast."""
    usable = run.usable(mask)
    logits = np.full(mask.shape, np.nan, np.float32)
    logits[usable] = run.logits(x, mask, closed_up(usable))[0, :, 0]
    return logits


@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
def test_a_run_is_the_cell_stepped_one_valid_session_at_a_time(kind: Kind) -> None:
    x, mask, _ = market()
    run = members(described(kind))
    found = panel_of(run, x, mask)
    model = build(run.network, seed=0)
    model.set_weights(run.weights[0])
    cell, last = model.get_layer("recurrent_1").cell, model.get_layer("logits")
    for symbol in (0, 3):
        state = [np.zeros((1, 4), np.float32)] * (2 if kind == "lstm" else 1)
        for session in np.flatnonzero(mask[symbol]):
            output, state = cell(np.clip(x[symbol, session], -5, 5)[None], state)
            if not np.isnan(found[symbol, session]):
                assert float(last(output)[0, 0]) == pytest.approx(found[symbol, session], abs=1e-5)
        assert (~np.isnan(found[symbol])).sum() == mask[symbol].sum() - LOOKBACK + 1


@pytest.mark.parametrize("extras", EXTRAS, ids=str)
@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
def test_the_future_changes_no_logit(kind: Kind, extras: dict[str, object]) -> None:
    x, mask, _ = market()
    run = members(described(kind, **extras))
    changed, other = x.copy(), mask.copy()
    changed[:, 200:] = 3
    other[:, 250:] = False
    before, after = panel_of(run, x, mask), panel_of(run, changed, other)
    assert np.array_equal(before[:, :200], after[:, :200], equal_nan=True)
    assert not np.array_equal(before[:, 200], after[:, 200], equal_nan=True)


@pytest.mark.parametrize("extras", EXTRAS, ids=str)
def test_a_session_that_is_not_valid_is_skipped(extras: dict[str, object]) -> None:
    x, mask, _ = market()
    run = members(described(**extras))
    garbage = x.copy()
    garbage[~mask] = 1e6
    found = panel_of(run, garbage, mask)
    for symbol in range(SYMBOLS):
        valid = mask[symbol]
        alone = panel_of(run, x[symbol : symbol + 1, valid], np.ones((1, valid.sum()), bool))
        assert alone[0] == pytest.approx(found[symbol, valid], abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("extras", EXTRAS, ids=str)
def test_both_modes_agree_on_the_first_row_that_has_a_forecast(extras: dict[str, object]) -> None:
    x, mask, _ = market()
    sequence = members(described(**extras))
    windowed_network = Network("gru", features=2, lookback=LOOKBACK, units=4, **extras)  # type: ignore[arg-type]
    windowed = Members(windowed_network, NO_SCALE, sequence.weights)
    found = panel_of(sequence, x, mask)
    for symbol in range(SYMBOLS):
        first = np.flatnonzero(mask[symbol])[:LOOKBACK]
        alone = panel_of(windowed, x[symbol : symbol + 1, first], np.ones((1, LOOKBACK), bool))
        assert alone[0, -1] == pytest.approx(found[symbol, first[-1]], abs=1e-6)


def test_attention_is_the_weighted_mean_of_the_last_states() -> None:
    network = described("rnn", attention=True)
    model = build(network, seed=1)
    weights = drawn(model)
    model.set_weights(weights)
    w_xh, w_hh, b, w_energy, b_energy, u, w_hy, c = (np.float64(weight) for weight in weights)
    x = market()[0][:, :20]
    states, h = [], np.zeros((SYMBOLS, 4))
    for t in range(20):
        h = np.tanh(h @ w_hh + x[:, t] @ w_xh + b)
        states.append(h)
    for t in (LOOKBACK - 1, 12, 19):
        seen = np.stack(states[t - LOOKBACK + 1 : t + 1])
        energy = np.exp(np.tanh(seen @ w_energy + b_energy) @ u)
        mean = (energy * seen).sum(axis=0) / energy.sum(axis=0)
        expected = np.concatenate([states[t], mean], axis=-1) @ w_hy + c
        assert np.asarray(model(x))[:, t] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("extras", EXTRAS, ids=str)
def test_inputs_of_any_length_pass_and_cost_no_parameter(extras: dict[str, object]) -> None:
    network = described(**extras)
    model = build(network, seed=1)
    for length in (LOOKBACK, 17, 300):
        assert model(np.zeros((2, length, 2), np.float32)).shape == (2, length, 1)
    longer = Network("gru", features=2, lookback=60, units=4, mode="sequence", **extras)  # type: ignore[arg-type]
    assert count_parameters(network) == count_parameters(longer)


def given(network: Network, x: np.ndarray, mask: np.ndarray, y: np.ndarray) -> Examples:
    rows = [usable_rows(mask, LOOKBACK, network.mode) for _ in range(2)]
    rows[0][:, 180:], rows[1][:, :181], rows[1][:, 220:] = False, False, False
    spans = [example_spans(mask, closed_up(part), LOOKBACK, joined=True) for part in rows]
    return Examples(
        x.reshape(-1, 2), y.reshape(-1, 1), closed_up(mask), spans[0], spans[1], base_rate=np.array([0.5])
    )


def test_an_epoch_takes_the_steps_that_plain_keras_takes_on_the_same_chunks() -> None:
    network, steps = described(), 40
    training = Training(epochs=1, batch_size=150, chunk=steps, learning_rate=1e-2, clip_norm=0.1)
    x, mask, y = market()
    examples = given(network, x, mask, y)
    weights, _, _ = Trainer(network, training).train(examples, seed=3)
    model = build_deployable(network, NO_SCALE)  # of Keras' own layers
    model.set_weights(build(network, seed=3).get_weights())
    model.compile(
        keras.optimizers.Adam(1e-2, global_clipnorm=0.1), keras.losses.BinaryCrossentropy(from_logits=True)
    )
    rng = np.random.default_rng(3)
    shift = rng.integers(steps - LOOKBACK + 1, size=len(examples.train))
    chunks = rng.permutation(cut_into_chunks(examples.train, steps, LOOKBACK, shift))
    for batch in (chunks[k : k + 150 // 36] for k in range(0, len(chunks), 150 // 36)):
        place = batch[:, :1] + np.arange(steps)
        carries = (place < batch[:, 1:]) & (np.arange(steps) >= LOOKBACK - 1)
        rows = examples.order[np.minimum(place, len(examples.order) - 1)]
        model.train_on_batch(
            examples.panel[rows], examples.labels[rows], carries * carries.size / carries.sum()
        )
    assert len(chunks) > 20
    for found, expected in zip(weights, model.get_weights(), strict=True):
        assert found == pytest.approx(expected, abs=2e-6)


def test_labels_outside_the_ranges_and_in_the_run_in_do_not_count() -> None:
    network, training = described(), Training(epochs=3, batch_size=64, chunk=40, learning_rate=1e-2)
    x, mask, y = market()
    trainer = Trainer(network, training)
    before = trainer.train(given(network, x, mask, y), seed=3)
    other = y.copy()
    other[:, 180] = 1 - other[:, 180]
    other[:, 220:] = 1 - other[:, 220:]
    first = usable_rows(mask, LOOKBACK, "sequence")
    other[mask & ~first] = np.nan
    after = trainer.train(given(network, x, mask, other), seed=3)
    assert before[1] == after[1]
    assert all(np.array_equal(a, b) for a, b in zip(before[0], after[0], strict=True))


def test_inputs_after_the_stop_range_move_no_weight() -> None:
    network, training = described(), Training(epochs=2, batch_size=64, chunk=40, learning_rate=1e-2)
    x, mask, y = market()
    trainer = Trainer(network, training)
    before = trainer.train(given(network, x, mask, y), seed=3)
    changed = x.copy()
    changed[:, 220:] = 4
    after = trainer.train(given(network, changed, mask, y), seed=3)
    assert before[1] == after[1]


def test_a_chunk_without_room_for_labels_is_refused() -> None:
    with pytest.raises(ModelError, match="no room for labels"):
        Trainer(described(), Training(chunk=LOOKBACK))


@pytest.fixture(scope="module")
def recipe() -> RecurrentModel:
    training = Training(epochs=3, batch_size=256, chunk=60, learning_rate=1e-2)
    return RecurrentModel(described(), training, members=2)


@pytest.fixture(scope="module")
def fitted(recipe: RecurrentModel) -> RecurrentEnsemble:
    return recipe.fit(*market(), **RANGES, seed=7)


def test_what_follows_calibration_changes_no_fit(recipe: RecurrentModel, fitted: RecurrentEnsemble) -> None:
    x, mask, y = market()
    x[:, 260:], y[:, 260:] = 50, 1
    after = recipe.fit(x, mask, y, **RANGES, seed=7)
    assert fitted.calibrator == after.calibrator
    assert fitted.history == after.history


def test_a_forecast_is_the_same_on_every_later_day(fitted: RecurrentEnsemble) -> None:
    x, mask, _ = market()
    whole = fitted.predict(x, mask).p_up
    for end in (270, 281, 299):
        so_far = fitted.predict(x[:, :end], mask[:, :end]).p_up
        assert so_far == pytest.approx(whole[:, :end], abs=1e-6, nan_ok=True)
        few = fitted.predict(x[2:4, :end], mask[2:4, :end]).p_up
        assert few == pytest.approx(whole[2:4, :end], abs=1e-6, nan_ok=True)


def test_a_loaded_model_forecasts_the_same(fitted: RecurrentEnsemble, tmp_path: Path) -> None:
    fitted.save(tmp_path / "model")
    x, mask, _ = market()
    loaded = load(tmp_path / "model")
    assert loaded.predict(x, mask).p_up == pytest.approx(fitted.predict(x, mask).p_up, abs=1e-6, nan_ok=True)


def test_the_run_starts_at_a_session_that_is_fixed_with_the_fit(recipe: RecurrentModel) -> None:
    x, mask, y = (np.tile(part, (1, 5, 1)[: part.ndim]) for part in market())
    ranges = {"train": range(1000), "stop": range(1100, 1200), "calibrate": range(1201, 1300)}
    fit = recipe.fit(x, mask, y, **ranges, seed=7)
    assert fit.start == 1100 - RUN_IN - LOOKBACK + 1
    assert [fit.first_session(row) for row in (1100, 1400)] == [fit.start] * 2


def test_baselines_forecast_the_rows_of_the_network(fitted: RecurrentEnsemble) -> None:
    x, mask, y = market()
    rows = ~np.isnan(fitted.predict(x, mask).p_up)
    for baseline in baselines(0, LOOKBACK, "sequence").values():
        learned = baseline.fit(x, mask, y, **RANGES, seed=1)
        assert learned.first_session(250) == fitted.first_session(250)
        assert np.array_equal(~np.isnan(learned.predict(x, mask).p_up), rows)


def test_more_history_than_the_run_in_needs_moves_a_forecast_little(fitted: RecurrentEnsemble) -> None:
    x, mask, _ = market()
    whole, part = fitted.predict(x, mask).p_up[:, -1], fitted.predict(x[:, 150:], mask[:, 150:]).p_up[:, -1]
    assert np.nanmax(np.abs(whole - part)) < 1e-4


def test_where_no_row_can_be_forecast_there_is_none(fitted: RecurrentEnsemble) -> None:
    x, mask, _ = market()
    assert np.isnan(fitted.predict(x, np.zeros_like(mask)).p_up).all()
    assert np.isnan(fitted.predict(x[:, : LOOKBACK - 1], mask[:, : LOOKBACK - 1]).p_up).all()


def test_what_is_no_number_in_a_session_that_is_not_valid_moves_nothing(
    recipe: RecurrentModel, fitted: RecurrentEnsemble
) -> None:
    x, mask, y = market()
    x[~mask] = np.nan
    mask[0, 0], x[0, 0] = False, np.nan
    broken = recipe.fit(x, mask, y, **RANGES, seed=7)
    assert np.isfinite([epoch.loss for epoch in broken.history]).all()
