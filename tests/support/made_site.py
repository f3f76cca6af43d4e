"""What a site is made of, made up: a record of live and late rows, prices with a dividend and a split, a report."""

from typing import Any

import numpy as np
import pandas as pd

from pipeline.evaluation.scores import score
from pipeline.monitoring.acceptance import Acceptance
from pipeline.monitoring.decay import Decay
from pipeline.outputs import MAIN, Output, list_outputs, select_output
from pipeline.prices.bar_block import COLUMNS, Block
from pipeline.report.evening_report import Report
from pipeline.report.site.inputs import EVENTS, SiteInputs, list_listings
from pipeline.report.site.record import compare_with_base_rate
from pipeline.tracking.challengers import Promotion
from tests.bench.market import DAYS
from tests.pipeline.report.test_files import a_report, verdict

LAST = int(DAYS.sessions.searchsorted(pd.Timestamp("2018-12-31")))
"""The place of the session that tonight's forecasts are made from."""

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(2)</script>",
    "../../etc/passwd",
    "BRK/B",
    "con",
]
"""Names that no symbol can have, two that one can, and none that may do more than be read."""


def sessions_of(count: int) -> pd.DatetimeIndex:
    """Return so many sessions up to the last one with a forecast."""
    return DAYS.sessions[LAST - count + 1 : LAST + 1]


def a_record(
    symbols: list[str], sessions: int, *, late: int = 0, outputs: tuple[Output, ...] = (MAIN,)
) -> pd.DataFrame:
    """Return champion rows: the first `late` sessions late, the others live, those of the last session open."""
    days, rng = sessions_of(sessions), np.random.default_rng(3)
    parts = []
    for output in outputs:
        ahead = DAYS.sessions[LAST - sessions + 1 + output.horizon : LAST + 1 + output.horizon]
        count = sessions * len(symbols)
        p = 0.53 + 0.02 * rng.standard_normal(count)
        up = (rng.random(count) < 0.53).astype(float)
        as_of, target = (np.repeat(each.to_numpy(), len(symbols)) for each in (days, ahead))
        is_open = target > DAYS.sessions[LAST].to_datetime64()
        above, below, _ = output.directions
        former = as_of < days[sessions // 2].to_datetime64()
        keys = {"symbol": np.tile(symbols, sessions), "as_of": as_of, "target_session": target}
        parts.append(pd.DataFrame(keys).assign(
            horizon=output.horizon, target=output.target, model_version=np.where(former, "gru-1", "gru-2"),
            issued_at=pd.DatetimeIndex(as_of).tz_localize("UTC") + pd.Timedelta(hours=22), p_up=p, low=p - 0.01,
            high=p + 0.01, direction=np.where(p > 0.5, above, below), baseline_p_up=0.53, last_close=100.0,
            data_version=7, config_digest="c0ffee", role="champion",
            kind=np.where(np.repeat(np.arange(sessions), len(symbols)) < late, "late", "live"),
            outcome=np.where(is_open, np.nan, up),
            realized_return=np.where(is_open, np.nan, np.where(up == 1, 0.01, -0.01)),
            settled_at=pd.Series(np.where(is_open, np.datetime64("NaT"), target)).dt.tz_localize("UTC"),
        ))  # fmt: skip
    record = pd.concat(parts).sort_values(["as_of", "symbol", "target_session"], ignore_index=True)
    kinds = {
        "as_of": "datetime64[us]",
        "target_session": "datetime64[us]",
        "settled_at": "datetime64[us, UTC]",
    }
    return record.astype(kinds)


def a_block(symbols: list[str], sessions: int) -> Block:
    """Return bars with a dividend and a split of the first symbol."""
    days, rng = sessions_of(sessions), np.random.default_rng(1)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.012, (sessions, len(symbols))), axis=0))
    values = np.ones((sessions, len(symbols), len(COLUMNS)))
    first = close * np.exp(rng.normal(0, 0.008, close.shape))
    top, bottom = np.maximum(first, close) * 1.006, np.minimum(first, close) * 0.994
    values[:, :, :4] = np.stack([first, top, bottom, close], axis=2)
    values[:, :, COLUMNS.index("dividend")] = 0.0
    if sessions > 20:
        values[-10, 0, COLUMNS.index("dividend")] = 0.25
        values[-20:, 0, :4] /= 2
        values[-20, 0, COLUMNS.index("split")] = 2.0
    return Block(values, days, symbols)


def scores_of(record: pd.DataFrame) -> pd.DataFrame:
    """Return the scores of the settled rows, live and late apart, as the evening measures them."""
    settled = record[record["outcome"].notna()]
    return pd.concat(
        score(
            compare_with_base_rate(select_output(rows, output), "gru"), baseline="base_rate", group=str(kind)
        )
        for kind, rows in settled.groupby("kind")
        for output in list_outputs(rows)
    )


def a_site_report(symbols: list[str], sessions: int = 80, **fields: Any) -> Report:
    """Return the report of an evening after so many sessions."""
    chosen = {name: fields.pop(name) for name in ("late", "outputs") if name in fields}
    record = fields.pop("record", None)
    record = a_record(symbols, sessions, **chosen) if record is None else record
    tonight = record[record["as_of"] == record["as_of"].max()].assign(is_new=True)
    issued = tonight[[name for name in tonight if name not in ("outcome", "realized_return", "settled_at")]]
    main = issued["target_session"].min()
    last = record[record["target_session"] == record["as_of"].max()].drop_duplicates("symbol")
    calls = last.assign(
        call=np.where((last["direction"] == "up") == (last["outcome"] == 1), "right", "wrong")
    )
    moved = {
        "symbol": symbols[:1],
        "horizon": 1,
        "target": "direction",
        "feature": "volume_z",
        "attribution": 0.031,
    }
    decay = Decay(MAIN, "as expected", 50, begun=sessions_of(9)[0], saved=0.0002)
    defaults: dict[str, Any] = {
        "kind": "live", "historical": False, "as_of": issued["as_of"].max(), "target_session": main,
        "forecasts": issued.reset_index(drop=True), "record": record, "members": len(symbols), "covered": len(symbols),
        "live_scores": scores_of(record) if record["outcome"].notna().any() else a_report().live_scores,
        "verdict": verdict(), "last_calls": calls.assign(is_settled=True), "decay": [decay],
        "bias": "survivorship-biased: 3 of 10 entries of the list have no dates", "attributions": pd.DataFrame(moved),
    }  # fmt: skip
    return a_report(*symbols, **defaults | fields)


def site_inputs(report: Report, sessions: int = 80, **fields: Any) -> SiteInputs:
    """Return what the site of an evening is made of."""
    current = fields.pop("current", {})
    event = ["2018-12-03", report.forecasts["symbol"][0], "held", "price jump", "100 to 1"]
    defaults: dict[str, Any] = {
        "report": report,
        "prices": a_block(list_listings(report, current), sessions),
        "sessions": DAYS.sessions,
        "weekdays": DAYS.weekdays,
        "current": current,
        "undated": 3,
        "listed": 10,
        "left_out": 1,
        "promotions": [Promotion("gru-2", "gru-1", "2018-11-05T22:00:00+00:00", "better", "evidence 31 of 20")],
        "acceptances": [Acceptance("2018-12-01T10:00:00Z", "ada", "a split was missed", ("1",), ("decayed",))],
        "quarantine": pd.DataFrame([event], columns=EVENTS),
        "dated": [f"{report.target_session:%Y-%m-%d}"],
    }  # fmt: skip
    return SiteInputs(**defaults | fields)
