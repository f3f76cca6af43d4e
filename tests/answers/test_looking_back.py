"""How far back a network looks tells why it finds an echo of forty sessions, or why it does not.

A plain network in sequence mode would have to hold forty signs at once, and none of any kind does.
"""

import numpy as np
import pytest

from models.ensembles.pooled import RecurrentEnsemble
from models.explain.diagnostics import measure_sensitivity
from models.networks.network import Kind
from models.networks.recurrent import build
from tests.answers.test_planted_arrays import (
    CONVOLUTION,
    LAG,
    LOOKBACK,
    PLAIN,
    assert_as_good_as_can_be,
    echo,
    hits,
    learned,
)

pytestmark = [pytest.mark.slow, pytest.mark.own_process]


def look_back(fitted: RecurrentEnsemble, x: np.ndarray) -> np.ndarray:
    """Return how much each lag of the last LOOKBACK sessions moves the logit, [lag]."""
    windows = np.stack([x[symbol, -LOOKBACK:] for symbol in range(len(x))])
    core = build(fitted.network, seed=0)
    return measure_sensitivity(core, fitted.members.weights, windows)[0, :, 0]


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_an_echo_of_forty_sessions_is_found_in_sequence_mode_by_a_network_that_looks_there(
    kind: Kind,
) -> None:
    market = echo(0.9, LAG)
    fitted = learned(kind, "sequence", CONVOLUTION, market)
    assert_as_good_as_can_be(fitted, market, 0.9)
    seen = look_back(fitted, market[0])
    assert seen[LAG] > 3 * np.delete(seen, LAG).max()


@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
def test_a_plain_network_misses_the_echo_for_it_does_not_look_that_far(kind: Kind) -> None:
    market = echo(0.9, LAG)
    fitted = learned(kind, "sequence", PLAIN, market, epochs=6)
    found, rows = hits(fitted, market)
    assert found < rows * 0.6
    seen = look_back(fitted, market[0])
    assert seen[LAG] < 0.05 * seen.max()
