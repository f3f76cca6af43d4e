"""How many findings two real histories give, and which of their true faults are among them.

The faults of av500 are those of its README, and those that reading its leaps showed: splits and distributions that are
not listed, wrong bars. google30y lists no action, and most leaps of its closes are splits that were missed (its README
advises to drop them); before 1999-11 it has no open, and the close stands in for it.
"""

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import pytest

from pipeline.market.calendar import calendar
from pipeline.prices.ingest.leaps import find_leaps
from pipeline.prices.ingest.quality import check
from pipeline.prices.ingest.reconciliation import COMPARED_COLUMNS, reconcile
from pipeline.prices.store import PriceStore
from pipeline.sources import Fetched
from tests.conftest import NOW

pytestmark = pytest.mark.bench

DAYS: Final = calendar("XNYS", date(1987, 1, 1), NOW)
LAST: Final = pd.Timestamp(2015, 12, 31)
BLOCK: Final = 100
"""Symbols that are checked at a time."""

README: Final = {
    "AFL 2009-01-22": "a stale close",
    "ANTM 2001-10-30": "two companies joined",
    "ANTM 2002-03-18": "a split listed that the closes do not show",
    "ANTM 2005-06-01": "a split not listed",
    "CMCSA 2004-08-02": "a wrong bar",
    "GNRC 2010-02-12": "a special dividend as a split",
    "HBI 2015-03-04": "adjusted closes and actions disagree",
    "JCI 2007-07-02": "adjusted closes and actions disagree",
    "TMUS 2013-05-01": "adjusted closes and actions disagree",
    "TRMB 2007-02-23": "a split a day off",
    "ZBRA 2003-08-21": "a split a day off in the adjusted closes",
    "ZBRA 2004-08-25": "a split a day off in the adjusted closes",
}
SEEN: Final = {
    "FMC 2002-01-02": "a distribution not listed",
    "IRM 2006-02-02": "a wrong bar",
    "KSU 2000-07-13": "a distribution of twice the price",
    "MCO 2000-10-03": "a dividend that the closes do not show",
    "MGM 2004-05-18": "a dividend that the closes do not show",
    "MSI 2011-01-04": "a distribution not listed",
    "SO 2001-04-03": "a distribution as a split and as a dividend",
    "TEL 2014-05-15": "a dividend that the closes do not show",
    "WST 2004-09-30": "a split not listed",
}
LEAPS: Final = ("leap", "spike", "split fault", "unit fault", "unexplained leap")
NEAR: Final = pd.Timedelta(days=4)


def read_av500(folder: Path) -> tuple[pd.DataFrame, str]:
    return pd.read_parquet(folder / "av500" / "prices_to_2015.parquet"), "raw"


def read_google30y(folder: Path) -> tuple[pd.DataFrame, str]:
    early, late = (
        pd.read_parquet(folder / "google30y" / f"{name}.parquet")
        for name in ("prices_1987_1999", "left_index_1999_2015")
    )
    rows = pd.concat([early.assign(open=early["close"]), late]).dropna(subset=["open", "high", "low"])
    return rows.assign(dividend=0.0, split=1.0, adj_close=np.nan), "split"


def blocks(rows: pd.DataFrame, adjustment: str) -> Iterator[list[Fetched]]:
    """Yield the answers of a source that has these rows."""
    rows = rows.assign(
        session=pd.to_datetime(rows["date"]).astype("datetime64[us]"), volume=rows["volume"].astype(float)
    )
    columns = ["session", "open", "high", "low", "close", "volume", "dividend", "split", "adj_close"]
    answers = [
        Fetched(
            str(symbol),
            "ok",
            NOW,
            bars=bars.sort_values("session")[columns].reset_index(drop=True),
            adjustment=adjustment,
        )
        for symbol, bars in rows.groupby("symbol")
    ]
    for first in range(0, len(answers), BLOCK):
        yield answers[first : first + BLOCK]


def find(rows: pd.DataFrame, adjustment: str, folder: Path) -> pd.DataFrame:
    """Return the findings of a first history: of the checks and of the comparison with an empty store."""
    store, found = PriceStore(folder / "prices"), []
    for answers in blocks(rows, adjustment):
        checked = check(answers, DAYS, LAST, source="files", historical=True)
        whole = frozenset(answer.symbol for answer in answers)
        stored = store.read(columns=COMPARED_COLUMNS)
        found += [checked.findings, reconcile(store, checked.prices, stored, {}, whole).findings]
    findings = pd.concat(found, ignore_index=True)
    rule = findings["rule"].str.removeprefix("quarantine: ")
    return findings.assign(rule=rule, session=pd.to_datetime(findings["session"]))


def tell(name: str, findings: pd.DataFrame, rows: pd.DataFrame) -> None:
    thousands = len(rows) / 252 / 1000
    print(
        f"\n{name}: {len(rows):,} bars, {rows['symbol'].nunique()} symbols, findings per 1,000 symbol-years:"
    )
    for rule, count in findings["rule"].value_counts().items():
        print(f"  {count / thousands:8.2f}  {rule} ({count})")


def known(findings: pd.DataFrame, faults: dict[str, str]) -> tuple[list[str], "pd.Series[bool]"]:
    """Return the faults that a finding names, and whether each finding names one."""
    is_true = pd.Series(False, index=findings.index)
    named = []
    for fault in faults:
        symbol, day = fault.split()
        near = (findings["session"] - pd.Timestamp(day)).abs() <= NEAR
        hits = (findings["symbol"] == symbol) & near & (findings["rule"] != "missing session")
        named += [fault] if hits.any() else []
        is_true |= hits
    return named, is_true


def test_the_findings_of_av500(datasets: Path, tmp_path: Path) -> None:
    rows, adjustment = read_av500(datasets)
    findings = find(rows, adjustment, tmp_path)
    named, is_true = known(findings, README)
    others, is_other = known(findings, SEEN)
    leaps = findings[findings["rule"].isin(LEAPS)]
    false = leaps[~(is_true | is_other)[leaps.index]]
    tell("av500", findings, rows)
    for what, faults, hits in (("faults of its README", README, named), ("others", SEEN, others)):
        print(
            f"of {len(faults)} {what} {len(hits)} are named, not: {', '.join(sorted(set(faults) - set(hits)))}"
        )
    print(f"false leaps: {', '.join(f'{row.symbol} {row.session:%Y-%m-%d}' for row in false.itertuples())}")
    assert len(named) >= 11
    assert len(others) >= 9
    assert len(false) / (len(rows) / 252_000) <= 0.5


@pytest.mark.parametrize("missing", [["volume"], ["open", "high", "low", "volume"]])
def test_the_leaps_of_av500_without_volumes_and_of_its_closes_alone(
    datasets: Path, missing: list[str]
) -> None:
    rows, _ = read_av500(datasets)
    rows = rows.assign(session=pd.to_datetime(rows["date"]), **dict.fromkeys(missing, np.nan))
    leaps = find_leaps(rows.sort_values(["symbol", "session"], ignore_index=True))
    named, is_true = known(leaps, README | SEEN)
    false = leaps[~is_true]
    print(f"\nav500 without {', '.join(missing)}: {len(leaps)} leaps, true: {', '.join(named)}")
    print(f"false leaps: {', '.join(f'{row.symbol} {row.session:%Y-%m-%d}' for row in false.itertuples())}")
    assert len(named) >= (9 if missing == ["volume"] else 7)
    assert len(false) / (len(rows) / 252_000) <= 0.5


def test_the_findings_of_google30y(datasets: Path, tmp_path: Path) -> None:
    rows, adjustment = read_google30y(datasets)
    findings = find(rows, adjustment, tmp_path)
    tell("google30y", findings, rows)
    rows = rows.sort_values(["symbol", "date"])
    growth = np.log(rows["close"]).groupby(rows["symbol"]).diff()
    large = rows[growth.abs() > 0.5].assign(session=lambda frame: pd.to_datetime(frame["date"]))
    leaps = findings[findings["rule"].isin(LEAPS)]
    near = large.merge(leaps, on="symbol", suffixes=("", "_named"))
    near = near[(near["session"] - near["session_named"]).between(pd.Timedelta(0), pd.Timedelta(days=8))]
    named = near[["symbol", "session"]].drop_duplicates()
    print(
        f"of {len(large)} closes that move by more than exp(0.5) {len(named)} are named, {len(leaps)} leaps in all"
    )
    assert len(named) >= 430
