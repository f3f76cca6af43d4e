"""Differences and intervals are printed with digits that show them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.formatting import format_alike, format_interval, format_points, format_return


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ((0.0019, 0.0001, 0.0036), ("+0.0019", "+0.0001", "+0.0036")),
        ((0.00006, -0.00001, 0.00013), ("+0.00006", "-0.00001", "+0.00013")),
        ((0.00012, 0.00008, 0.00014), ("+0.00012", "+0.00008", "+0.00014")),  # three times 0.0001
        ((0.01, -0.0000004, 0.02), ("+0.0100000", "-0.0000004", "+0.0200000")),
        ((0.0, 0.0, 0.0), ("+0.0000", "+0.0000", "+0.0000")),
        ((-0.0, 1e-17, -1e-17), ("+0.0000", "+0.0000", "+0.0000")),  # rounding errors
        ((0.0001, math.nan, math.nan), ("+0.0001", "–", "–")),
    ],
)
def test_a_difference_and_its_interval_have_the_decimals_that_show_them(
    values: tuple[float, ...], texts: tuple[str, ...]
) -> None:
    assert format_alike(*values) == texts


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=4))
def test_what_differs_is_printed_differently_and_in_order(values: list[float]) -> None:
    texts = format_alike(*values)
    shown = [float(text) for text in texts]
    assert len({len(text.partition(".")[2]) for text in texts}) == 1
    assert np.abs(np.subtract(shown, values)).max() <= 0.5e-4 * (1 + 1e-9)
    for value, number in zip(values, shown, strict=True):
        if abs(value) > 1e-8:
            assert np.sign(number) == np.sign(value)
    assert [shown[place] for place in np.argsort(values, kind="stable")] == sorted(shown)


def test_shares_are_percentages() -> None:
    assert format_alike(0.00004, -0.2, decimals=1, percent=True) == ("+0.004%", "-20.000%")
    assert format_alike(0.123, decimals=1, percent=True, sign="") == ("12.3%",)
    assert format_points(0.0004) == "+0.04 pp"
    assert (format_points(0.024), format_points(0.0)) == ("+2.4 pp", "+0.0 pp")
    assert [format_return(value) for value in (0.0123, -0.00004, math.nan)] == ["+1.23%", "-0.004%", "–"]


def test_the_ends_of_an_interval_are_told_apart() -> None:
    assert format_interval(0.69312, 0.69314, "log_loss", 100) == "0.69312 to 0.69314"
    assert format_interval(0.51, 0.5104, "hit_rate", 100) == "51.00% to 51.04%"
    assert format_interval(0.48, 0.52, "hit_rate", 100) == "48.0% to 52.0%"
