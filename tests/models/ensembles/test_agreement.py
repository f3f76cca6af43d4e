"""How far members agree, against NumPy's own correlation and cases that are known."""

import numpy as np
import pytest

from models.ensembles.agreement import Agreement, join_agreements, measure_agreement


def test_the_correlation_is_the_mean_over_pairs_and_horizons() -> None:
    logits = np.random.default_rng(1).standard_normal((3, 50, 2))
    pairs = [(0, 1), (0, 2), (1, 2)]
    expected = np.mean(
        [np.corrcoef(logits[a, :, h], logits[b, :, h])[0, 1] for a, b in pairs for h in (0, 1)]
    )
    found = measure_agreement(logits)
    assert found.correlation == pytest.approx(expected, rel=1e-5)
    assert found.spread == pytest.approx(np.std(logits, axis=0, ddof=1).mean(), rel=1e-5)
    assert found.rows == 50


def test_what_is_summed_in_another_order_is_the_same_to_the_digits_that_are_stored() -> None:
    logits = np.random.default_rng(2).normal(0, 0.03, (5, 4001, 1))
    other = logits[::-1, np.random.default_rng(3).permutation(4001)]
    assert np.std(logits, axis=0, ddof=1).mean() != np.std(other, axis=0, ddof=1).mean()
    assert measure_agreement(logits) == measure_agreement(other)
    assert measure_agreement(logits).spread == float(f"{np.std(logits, axis=0, ddof=1).mean():.6g}")


def test_members_that_say_the_same_agree_wholly_and_opposites_not_at_all() -> None:
    one = np.linspace(-1, 1, 9)[None, :, None]
    assert measure_agreement(np.concatenate([one, one + 3])).correlation == pytest.approx(1)
    assert measure_agreement(np.concatenate([one, -one])).correlation == pytest.approx(-1)
    assert measure_agreement(np.concatenate([one, one])).spread == 0


def test_a_single_member_and_members_that_never_move_have_no_correlation() -> None:
    moving = np.linspace(-1, 1, 9)[None, :, None]
    assert measure_agreement(moving) == Agreement(0.0, None, 9)
    still = np.zeros((2, 9, 1))
    assert measure_agreement(still).correlation is None
    assert measure_agreement(np.concatenate([moving, still])).correlation is None


def test_the_agreement_of_several_ensembles_weighs_each_by_its_rows() -> None:
    joined = join_agreements([Agreement(1.0, 0.5, 10), Agreement(2.0, None, 10), Agreement(4.0, 0.9, 30)])
    assert joined == Agreement((10 + 20 + 120) / 50, (5 + 27) / 40, 50)
