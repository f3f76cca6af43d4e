"""The figure of the trading view: whole, in the page's colours, in words too, and the same every time."""

import re
from xml.etree import ElementTree

import numpy as np
import pandas as pd

from pipeline.report.charts.equity import draw_equity
from pipeline.trading.view import view_trading
from tests.pipeline.trading.test_positions import rows_of, walk_of
from tests.pipeline.trading.test_view import FREE, view_of

VIEW = view_of(walk_of(3, sessions=100), np.full((99, 3), 0.4))


def test_the_figure_names_every_curve_and_its_end() -> None:
    svg = draw_equity(VIEW)
    read = "".join(ElementTree.fromstring(svg.replace("<svg", '<svg xmlns:xlink="x"', 1)).itertext())
    for result in VIEW.results.values():
        assert f"\n    {result.name}\n" in read
        assert (
            f"{result.name} {1 + result.net_return:.3f} (maximum drawdown {result.drawdown.depth:.1%}, "
            in read
        )
    assert "(not reachable)" in read
    assert re.match(r'<svg viewBox="[^"]+" role="img" aria-labelledby="[^"]+" aria-describedby="[^"]+">', svg)


def test_it_has_the_colours_of_the_page_and_makes_no_request() -> None:
    svg = draw_equity(VIEW)
    assert {"var(--first)", "var(--second)", "var(--muted)"} <= set(re.findall(r"var\(--\w+\)", svg))
    assert re.findall(r"#[0-9a-f]{6}", svg) == []
    assert re.findall(r"https?://|url\((?!#)", svg) == []
    assert draw_equity(VIEW) == svg


def test_where_nothing_was_traded_there_is_no_figure() -> None:
    fills = walk_of(3, sessions=100)
    fills.open[:] = fills.previous_close
    rows = rows_of(np.full((50, 3), 0.6), first=50)
    both = pd.concat([rows, rows.assign(model="always_up")])
    assert draw_equity(view_trading(both, fills, FREE, model="gru", baseline="always_up", trials=1)) == ""
