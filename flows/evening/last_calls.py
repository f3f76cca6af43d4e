"""Whether the forecasts of the session that has just closed were right, before their outcomes are settled."""

from typing import Final

import numpy as np
import pandas as pd

from flows.evening.settlement import realized_returns
from flows.prices.update import PriceStatus
from flows.runtime.context import Run
from flows.training.history import price_panel
from pipeline.features.targets import median_of, part_returns
from pipeline.ledger.ledger import UniverseRecord
from pipeline.outputs import Output, select_output

__all__ = ["judge_last_calls"]

_COLUMNS: Final = ["symbol", "target_session", "direction", "call", "realized_return", "is_settled"]


def judge_last_calls(
    run: Run, price_status: PriceStatus, record: UniverseRecord, output: Output
) -> pd.DataFrame:
    """Return how the forecasts for the session of `price_status` turned out, by the closes as they are stored.

    A vendor may still revise these closes: the outcome that counts is sealed from settled bars, on a later evening.

    Returns:
        symbol (the listing's current one), target_session, direction, call ("right", "wrong"; "" without a direction
        or without an outcome), realized_return (of a relative target less the median) and is_settled; no row where
        nothing was forecast for that session.
    """
    rows = select_output(record.rows[record.rows["target_session"] == price_status.as_of], output)
    if rows.empty:
        return pd.DataFrame(columns=_COLUMNS)
    current = run.universe.current
    rows = rows.assign(listing=[current.get(symbol, symbol) for symbol in rows["symbol"]])
    above, below, _ = output.directions
    panel = price_panel(
        run,
        price_status.as_of,
        price_status.seq,
        sorted({*rows["listing"], *(run.universe.symbols if output.is_relative else [])}),
        since=rows["as_of"].min(),
        bars=price_status.bars,
    )
    rows = rows[rows["as_of"].isin(panel.sessions)]
    change = realized_returns(panel, rows)
    if output.is_relative:
        belongs = run.universe.membership(panel.sessions, panel.symbols).to_numpy()
        median = median_of(part_returns(panel, output), belongs)[0]
        change = change - median[panel.sessions.get_indexer(pd.DatetimeIndex(rows["as_of"]))]
    is_right = np.sign(change) == rows["direction"].map({above: 1.0, below: -1.0}).to_numpy(float)
    has_outcome = np.isfinite(change) & (change != 0) & rows["direction"].isin([above, below]).to_numpy()
    return pd.DataFrame(
        {
            "symbol": rows["listing"].to_numpy(),
            "target_session": rows["target_session"].to_numpy(),
            "direction": rows["direction"].to_numpy(),
            "call": np.where(has_outcome, np.where(is_right, "right", "wrong"), ""),
            "realized_return": change,
            "is_settled": rows["settled_at"].notna().to_numpy(),
        }
    )
