"""A bar in a terminal is whole in every usual width; the note gets what is left."""

import re

import pytest

from tests.support.terminal import shown_by

DRAW = """
from rich.console import Console
from flows.runtime.progress_bars import draw_bar
with draw_bar(Console(stderr=True), "train to score", 100) as advance:
    for number in range(12):
        advance("member 5 of 5, epoch 5: loss 0.6896, stop loss 0.6996, hit rate 0.498, gradient norm 0.0312")
"""


@pytest.mark.parametrize("columns", [80, 100, 120])
def test_bar_count_and_times_are_whole_and_the_note_is_cut(columns: int) -> None:
    drawn = [line for line in shown_by(DRAW, columns=columns) if "12/100" in line]
    assert drawn
    for line in drawn:
        assert re.fullmatch(
            r"train to score [━╸╺]{13,} +12/100 \d:\d\d:\d\d left (\d:\d\d|-:--):(\d\d|--) member 5 of 5, [^…]*… *",
            line,
        ), line
        assert len(line) <= columns
