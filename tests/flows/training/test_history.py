"""A history without a usable row is refused with the cause; one with few is described in the log."""

import logging
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from flows.training.history import _report_unused
from pipeline.errors import InputError
from pipeline.features.feature_sets import FEATURE_SETS
from pipeline.features.panel import Panel
from pipeline.features.sequences import build_sequences
from pipeline.market.calendar import Calendar
from pipeline.market.universe import Universe
from tests.conftest import laid_out, prices_of, random_bars
from tests.pipeline.features.test_sequences import members
from tests.support.made_sequences import directions

DEFAULT = FEATURE_SETS["default16"]


def made(xnys: Calendar, untraded: int) -> tuple[Panel, Universe]:
    sessions = xnys.sessions[:200]
    panel = laid_out(prices_of({"FUND": random_bars(sessions, 1)}, xnys), sessions, ["FUND"])
    volume = panel.volume.copy()
    volume[:untraded] = 0.0
    return replace(panel, volume=volume), members(["FUND"])


def report(panel: Panel, universe: Universe) -> None:
    run: Any = SimpleNamespace(universe=universe)
    _report_unused(panel, DEFAULT, run, build_sequences(panel, DEFAULT, universe, directions(1)))


def test_a_universe_without_a_label_is_refused_and_the_volume_named(xnys: Calendar) -> None:
    with pytest.raises(InputError, match="No row has both features and a label") as error:
        report(*made(xnys, 200))
    assert error.value.where == "FUND: a volume of 0 on 200 of 200 bars: they have no label"


def test_bars_without_trades_are_named_in_the_log(xnys: Calendar, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="nextday")
    report(*made(xnys, 150))
    assert caplog.messages == ["FUND: a volume of 0 on 150 of 200 bars: they have no label"]


def test_a_healthy_history_has_no_line(xnys: Calendar, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="nextday")
    panel, universe = made(xnys, 0)
    report(panel, universe)
    assert caplog.messages == []
    assert np.isfinite(panel.volume).all()
