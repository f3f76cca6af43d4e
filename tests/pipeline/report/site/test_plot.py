"""The drawing module: places, gaps and round values."""

import numpy as np
import pandas as pd
import pytest

from pipeline.report.site.plot import Plot, Scale, choose_ticks, date_ticks, join_band, join_bars, join_line


def test_a_scale_puts_the_largest_value_on_top() -> None:
    y = Scale(10.0, 0.0)
    assert y([10.0, 5.0, 0.0]).tolist() == [0, 500, 1000]
    room = Scale.upwards([1.0, 3.0, np.nan])
    assert room.first > 3 > 1 > room.last
    assert np.isfinite(Scale.upwards([2.0, 2.0])([2.0])).all()
    assert np.isfinite(Scale.upwards([])([0.5])).all()


def test_a_line_has_a_gap_where_a_value_is_missing() -> None:
    x, nan = np.arange(5.0), np.nan
    assert join_line(x, np.array([1, 2, nan, 4, 5])) == "M0 1l1 1M3 4l1 1"
    assert (
        join_line(x[:3], np.array([5.4, 1.6, 0.4])) == "M0 5l1-3 1-2"
    )  # every place is rounded, not every step
    assert join_line(x[:2], np.array([nan, nan])) == ""


def test_a_band_goes_there_and_back() -> None:
    x = np.array([0.0, 10.0])
    assert join_band(x, np.array([5.0, 6.0]), np.array([1.0, 2.0])) == "M0 1l10 1L10 6l-10-1Z"
    assert join_band(x, np.full(2, np.nan), x) == ""
    assert join_bars(x, np.array([5.0, 5.0]), np.array([1.0, 7.0])) == "M0.0 5.0V1.0M10.0 5.0V7.0"


@pytest.mark.parametrize(
    ("low", "high", "values"),
    [
        (0.0, 1.0, [0.0, 0.5, 1.0]),
        (-0.013, 0.021, [-0.01, 0.0, 0.01, 0.02]),
        (96.0, 104.0, [96, 98, 100, 102, 104]),
    ],
)
def test_ticks_are_round_and_inside(low: float, high: float, values: list[float]) -> None:
    assert choose_ticks(low, high) == values


@pytest.mark.parametrize("span", [1e-9, 0.3, 7, 1234.5, 3e8])
def test_there_are_a_few_ticks_at_any_size(span: float) -> None:
    found = choose_ticks(-span / 3, span)
    assert 2 <= len(found) <= 5
    assert all(-span * 0.334 <= value <= span * 1.001 for value in found)


@pytest.mark.parametrize("sessions", [1, 3, 30, 252, 2520])
def test_there_are_a_few_dates_at_any_length(sessions: int) -> None:
    days = pd.bdate_range("2015-01-05", periods=sessions).to_numpy("datetime64[D]")
    found = date_ticks(days)
    assert 1 <= len(found) <= 5
    for at, name in found:
        assert str(days[at]).startswith(name)


def test_what_a_plot_is_called_cannot_close_its_attribute() -> None:
    plot = Plot('"><script>', "<b>")
    plot.label_x([(10.0, "<i>")])
    assert "<script>" not in plot.markup()
    assert "<b>" not in plot.markup()
    assert plot.markup().count("&lt;i&gt;") == 1
