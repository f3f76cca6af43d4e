"""A fit may go on from weights that know no label it is not to learn from, and from no others."""

from dataclasses import replace

import numpy as np
import pytest

from models.ensembles.per_symbol import SymbolModel
from models.ensembles.pooled import RecurrentEnsemble, RecurrentModel
from models.errors import ModelError
from models.networks.network import Network
from models.training.trainer import Training

pytestmark = [pytest.mark.slow, pytest.mark.own_process]

EARLY = {"train": range(300), "stop": range(301, 350), "calibrate": range(351, 400)}
LATE = {"train": range(400), "stop": range(401, 450), "calibrate": range(451, 499)}
RECIPE = RecurrentModel(
    Network("gru", features=2, lookback=4, units=4), Training(epochs=3, learning_rate=5e-3, batch_size=64), 2
)

Block = tuple[np.ndarray, np.ndarray, np.ndarray]


def block(seed: int = 3) -> Block:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((5, 500, 2)).astype(np.float32)
    y = (np.roll(x[:, :, :1], -1, axis=1) + 0.5 * rng.standard_normal((5, 500, 1)) > 0).astype(np.float32)
    y[:, 1:] = (x[:, :-1, :1] > 0).astype(np.float32)
    return x, np.ones((5, 500), dtype=bool), y


BLOCK = block()


@pytest.fixture(scope="module")
def early() -> RecurrentEnsemble:
    return RECIPE.fit(*BLOCK, **EARLY, seed=7)


def weights(ensemble: RecurrentEnsemble) -> bytes:
    return b"".join(array.tobytes() for each in ensemble.members.weights for array in each)


def test_a_refit_that_goes_on_begins_where_the_fit_before_it_ended(early: RecurrentEnsemble) -> None:
    cold = RECIPE.fit(*BLOCK, **LATE, seed=7)
    warm = replace(RECIPE, start=early).fit(*BLOCK, **LATE, seed=7)
    last = [epoch.loss for epoch in early.history if epoch.epoch == 3]
    first = [epoch.loss for epoch in warm.history if epoch.epoch == 1]
    assert np.mean(first) < np.mean(last)
    assert np.mean(first) < np.mean([epoch.loss for epoch in cold.history if epoch.epoch == 1])
    again = replace(RECIPE, start=RECIPE.fit(*BLOCK, **EARLY, seed=7)).fit(*BLOCK, **LATE, seed=7)
    assert weights(again) == weights(warm) != weights(cold)


@pytest.mark.parametrize("stop", [range(301, 401), range(301, 350)])
def test_weights_that_know_later_labels_than_the_refit_may_learn_start_nothing(stop: range) -> None:
    knows = replace(RECIPE, training=replace(RECIPE.training, epochs=1)).fit(
        *BLOCK, train=range(300), stop=stop, calibrate=range(402, 450), seed=7
    )
    sooner = {"train": range(stop.stop - 1), "stop": range(451, 470), "calibrate": range(471, 499)}
    assert not knows.may_start(sooner["train"])
    with pytest.raises(ModelError, match="later labels"):
        replace(RECIPE, start=knows).fit(*BLOCK, **sooner, seed=7)
    assert knows.may_start(range(stop.stop))


def test_no_label_after_the_train_range_of_the_refit_moves_a_weight_of_it_before_it_stops(
    early: RecurrentEnsemble,
) -> None:
    x, mask, y = BLOCK
    hidden = y.copy()
    hidden[:, LATE["train"].stop :] = 1 - hidden[:, LATE["train"].stop :]
    blind = RECIPE.fit(x, mask, hidden, **EARLY, seed=7)
    assert weights(blind) == weights(early)
    refit = [
        replace(RECIPE, start=start).fit(x, mask, labels, **LATE, seed=7)
        for start, labels in ((early, y), (blind, hidden))
    ]
    assert refit[0].history[0].loss == refit[1].history[0].loss


def test_another_network_or_other_seeds_start_nothing(early: RecurrentEnsemble) -> None:
    with pytest.raises(ModelError, match="same network and seeds"):
        replace(RECIPE, start=early).fit(*BLOCK, **LATE, seed=8)
    wider = replace(RECIPE, network=replace(RECIPE.network, units=5), start=early)
    with pytest.raises(ModelError, match="same network and seeds"):
        wider.fit(*BLOCK, **LATE, seed=7)


def test_each_symbol_goes_on_from_its_own_weights_and_a_new_one_starts_from_chance() -> None:
    x, mask, y = BLOCK
    mask = mask.copy()
    mask[4, :250] = False
    x = np.where(mask[:, :, None], x, 0)
    by_symbol = SymbolModel(RECIPE.network, RECIPE.training, 2)
    early = by_symbol.fit(x, mask, y, **EARLY, seed=7)
    assert list(early.left_out) == [4]
    cold = by_symbol.fit(x, mask, y, **LATE, seed=7)
    warm = replace(by_symbol, start=early).fit(x, mask, y, **LATE, seed=7)
    same = [
        np.array_equal(one.weights[0][0], other.weights[0][0])
        for one, other in zip(warm.models, cold.models, strict=True)
    ]
    assert same == [False] * 4 + [True]
