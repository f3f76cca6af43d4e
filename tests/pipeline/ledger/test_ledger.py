import io
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from pipeline.errors import LedgerError, NextdayError
from pipeline.ledger.ledger import Ledger
from pipeline.schema import FORECASTS, OUTCOMES, validated
from pipeline.storage.ledger_database import LedgerPlace
from tests.support.made_sequences import NO_MEDIAN

MONDAY, TUESDAY, WEDNESDAY = (pd.Timestamp(2018, 12, day) for day in (10, 11, 12))
OPEN = datetime(2018, 12, 11, 14, 30, tzinfo=UTC)
EVENING = datetime(2018, 12, 10, 22, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def forecasts(*symbols: str, **columns: object) -> pd.DataFrame:
    frame = pd.DataFrame({"symbol": symbols or ("AAPL", "MSFT")}).assign(
        as_of=MONDAY, target_session=TUESDAY, horizon=1, model_version="gru-1", issued_at=EVENING, p_up=0.52,
        low=0.49, high=0.55, direction="up", baseline_p_up=0.53, last_close=100.0, data_version=7,
        config_digest="c0ffee", role="champion", target="direction",
    )  # fmt: skip
    instants = {"issued_at": "datetime64[us, UTC]"}
    return frame.assign(**columns).astype(
        {"as_of": "datetime64[us]", "target_session": "datetime64[us]", **instants}
    )


def outcomes(*symbols: str, **columns: object) -> pd.DataFrame:
    frame = pd.DataFrame({"symbol": symbols or ("AAPL", "MSFT")}).assign(
        as_of=MONDAY, target_session=TUESDAY, horizon=1, outcome=1.0, realized_return=0.0125,
        settled_at=EVENING + timedelta(days=2), data_version=9, **NO_MEDIAN,
    )  # fmt: skip
    instants = {"settled_at": "datetime64[us, UTC]", "median_basis": "str", "void_reason": "str"}
    return frame.assign(**columns).astype(
        {"as_of": "datetime64[us]", "target_session": "datetime64[us]", **instants}
    )


def issue(ledger: Ledger, frame: pd.DataFrame, **changes: object) -> pd.DataFrame:
    usual = {
        "universe": "sample",
        "opens": {MONDAY: OPEN, TUESDAY: OPEN + timedelta(days=1)},
        "newest_observed_at": EVENING - SECOND,
        "historical": False,
    }
    return ledger.issue(frame, **(usual | changes))


@pytest.fixture
def ledger(place: LedgerPlace) -> Ledger:
    return Ledger(place)


def test_what_was_issued_comes_back_to_the_last_bit(ledger: Ledger) -> None:
    asked = forecasts("A", "B", "C", p_up=[0.1 + 0.2, 5e-324, 1 - 2**-53], last_close=[1 / 3, 1e300, 2.0])
    standing = issue(ledger, asked)
    assert standing["is_new"].tolist() == [True] * 3
    pd.testing.assert_frame_equal(
        standing[list(FORECASTS.columns)], asked.assign(kind="live")[list(FORECASTS.columns)]
    )
    pd.testing.assert_frame_equal(ledger.forecasts("sample"), standing[list(FORECASTS.columns)])


@pytest.mark.parametrize(
    "change", [{}, {"p_up": 0.9}, {"model_version": "gru-2"}, {"config_digest": "other"}]
)
def test_the_first_champion_row_is_final(ledger: Ledger, change: dict[str, object]) -> None:
    first = issue(ledger, forecasts())
    again = issue(ledger, forecasts(issued_at=EVENING + timedelta(hours=1), **change))
    pd.testing.assert_frame_equal(again, first.assign(is_new=False))
    assert ledger.verify().batches == 1


def test_only_the_symbols_that_are_missing_are_added(ledger: Ledger) -> None:
    issue(ledger, forecasts("AAPL"))
    later = issue(ledger, forecasts("MSFT", "AAPL", p_up=0.6))
    assert later[["symbol", "p_up", "is_new"]].values.tolist() == [["MSFT", 0.6, True], ["AAPL", 0.52, False]]


def test_challengers_are_kept_next_to_the_champion_one_per_model(ledger: Ledger) -> None:
    challenger = {"role": "challenger", "p_up": 0.4, "direction": "down"}
    issue(ledger, pd.concat([forecasts("AAPL"), forecasts("AAPL", model_version="lstm-1", **challenger)]))
    issue(ledger, forecasts("AAPL", model_version="lstm-1", **challenger | {"p_up": 0.3}))
    issue(ledger, forecasts("AAPL", model_version="lstm-2", **challenger))
    assert ledger.record("sample")["model_version"].tolist() == ["gru-1"]
    rivals = ledger.record("sample", role="challenger")
    assert rivals[["model_version", "p_up"]].values.tolist() == [["lstm-1", 0.4], ["lstm-2", 0.4]]


def test_a_champion_that_becomes_a_challenger_has_no_second_row(ledger: Ledger) -> None:
    issue(ledger, pd.concat([forecasts("AAPL"), forecasts("AAPL", model_version="new", role="challenger")]))
    swapped = [forecasts("AAPL", model_version="new"), forecasts("AAPL", role="challenger")]
    standing = issue(ledger, pd.concat(swapped, ignore_index=True))
    assert standing[["model_version", "role", "is_new"]].values.tolist() == [["gru-1", "champion", False]]


def test_a_challenger_on_record_does_not_keep_its_model_from_the_official_record(ledger: Ledger) -> None:
    issue(ledger, forecasts("AAPL", role="challenger"))
    assert issue(ledger, forecasts("AAPL"))["is_new"].tolist() == [True]
    assert len(ledger.record("sample")) == 1
    assert issue(ledger, forecasts("AAPL", role="challenger"))["role"].tolist() == ["champion"]


def open_ones(ledger: Ledger) -> pd.DataFrame:
    record = ledger.record("sample")
    return record[record["settled_at"].isna()]


def test_universes_keep_their_records_apart(ledger: Ledger) -> None:
    issue(ledger, forecasts("AAPL"))
    assert issue(ledger, forecasts("AAPL", p_up=0.7), universe="tech")["is_new"].tolist() == [True]
    ledger.settle(outcomes("AAPL"), universe="tech")
    assert ledger.record("tech")[["p_up", "outcome"]].values.tolist() == [[0.7, 1.0]]
    assert open_ones(ledger)["p_up"].tolist() == [0.52]
    assert ledger.record("nobody").empty


@pytest.mark.parametrize(
    ("issued_at", "changes", "kind"),
    [
        (OPEN - timedelta(microseconds=1), {}, "live"),
        (OPEN, {}, "late"),
        (OPEN + SECOND, {}, "late"),
        (EVENING, {"newest_observed_at": EVENING}, "live"),
        (EVENING, {"newest_observed_at": EVENING + timedelta(microseconds=1)}, "late"),
        (EVENING, {"historical": True}, "late"),
        (EVENING, {"historical": True, "opens": {}}, "late"),
    ],
)
def test_a_row_is_live_only_before_the_open_and_after_its_bars(
    ledger: Ledger, issued_at: datetime, changes: dict[str, object], kind: str
) -> None:
    assert issue(ledger, forecasts("AAPL", issued_at=issued_at), **changes)["kind"].tolist() == [kind]


@pytest.mark.parametrize(("shift", "kind"), [(timedelta(0), "live"), (timedelta(microseconds=-1), "late")])
def test_a_clock_that_was_set_back_makes_no_live_row(ledger: Ledger, shift: timedelta, kind: str) -> None:
    issue(ledger, forecasts("AAPL"))
    changes = {"newest_observed_at": EVENING - timedelta(days=1)}
    assert issue(ledger, forecasts("MSFT", issued_at=EVENING + shift), **changes)["kind"].tolist() == [kind]
    assert ledger.verify().ok


def test_a_row_that_came_late_still_moves_the_clock_on(ledger: Ledger) -> None:
    issue(ledger, forecasts("AAPL", issued_at=OPEN + SECOND))
    assert issue(ledger, forecasts("MSFT"))["kind"].tolist() == ["late"]


def test_times_of_other_zones_are_compared_as_instants(ledger: Ledger) -> None:
    tokyo = pd.Timestamp(OPEN).tz_convert("Asia/Tokyo").to_pydatetime()
    early = issue(ledger, forecasts("AAPL", issued_at=OPEN - SECOND), opens={MONDAY: tokyo})
    late = issue(ledger, forecasts("MSFT", issued_at=OPEN), opens={MONDAY: tokyo})
    assert [*early["kind"], *late["kind"]] == ["live", "late"]


def test_a_missing_opening_is_named_and_nothing_is_written(ledger: Ledger) -> None:
    later = forecasts("AAPL", "MSFT", as_of=[MONDAY, TUESDAY], target_session=[TUESDAY, WEDNESDAY])
    with pytest.raises(LedgerError, match=r"MSFT.*2018-12-11"):
        issue(ledger, later, opens={MONDAY: OPEN})
    assert ledger.verify().forecasts == 0


def test_rows_that_break_the_schema_are_refused(ledger: Ledger) -> None:
    with pytest.raises(NextdayError, match="p_up"):
        issue(ledger, forecasts(p_up=1.5))


def test_two_champions_for_one_key_are_refused_together(ledger: Ledger) -> None:
    both = pd.concat([forecasts("AAPL"), forecasts("AAPL", model_version="gru-2")])
    with pytest.raises(LedgerError, match="first one counts"):
        issue(ledger, both)
    assert ledger.verify().forecasts == 0


def test_no_forecasts_write_no_batch(ledger: Ledger) -> None:
    standing = issue(ledger, forecasts().iloc[:0])
    assert standing.empty
    assert list(standing) == [*FORECASTS.columns, "is_new"]
    assert ledger.settle(outcomes().iloc[:0], universe="sample") == 0
    assert ledger.verify().batches == 0


def test_an_outcome_is_settled_once_and_a_correction_is_only_listed(ledger: Ledger) -> None:
    issue(ledger, forecasts())
    assert open_ones(ledger)["symbol"].tolist() == ["AAPL", "MSFT"]
    assert ledger.settle(outcomes("AAPL"), universe="sample") == 1
    assert ledger.settle(outcomes("AAPL", settled_at=EVENING + timedelta(days=9)), universe="sample") == 0
    assert ledger.corrections("sample").empty
    corrected = outcomes("AAPL", outcome=0.0, realized_return=-0.02, settled_at=EVENING + timedelta(days=3))
    assert ledger.settle(corrected, universe="sample") == 0
    assert ledger.settle(corrected, universe="sample") == 0
    record = ledger.record("sample").set_index("symbol")
    assert record.loc["AAPL", ["outcome", "realized_return"]].tolist() == [1.0, 0.0125]
    assert record.loc["AAPL", "settled_at"] == EVENING + timedelta(days=2)
    assert math.isnan(record.loc["MSFT", "outcome"])
    assert record.loc["MSFT", "settled_at"] is pd.NaT
    listed = ledger.corrections("sample")
    pd.testing.assert_frame_equal(validated(listed, OUTCOMES), corrected[list(OUTCOMES.columns)])
    assert listed[["first_outcome", "first_return"]].values.tolist() == [[1.0, 0.0125]]
    assert open_ones(ledger)["symbol"].tolist() == ["MSFT"]


@pytest.mark.parametrize(("change", "listed"), [(1e-12, 0), (1e-8, 1)])
def test_rounding_is_no_correction(ledger: Ledger, change: float, listed: int) -> None:
    issue(ledger, forecasts("AAPL"))
    ledger.settle(outcomes("AAPL"), universe="sample")
    ledger.settle(outcomes("AAPL", realized_return=0.0125 + change), universe="sample")
    assert len(ledger.corrections("sample")) == listed


def test_a_session_without_a_label_is_settled_as_such(ledger: Ledger) -> None:
    issue(ledger, forecasts("AAPL", "MSFT"))
    untraded = outcomes("AAPL", "MSFT", outcome=float("nan"), realized_return=[-0.0, float("nan")])
    assert ledger.settle(untraded, universe="sample") == 2
    assert ledger.settle(untraded, universe="sample") == 0
    record = ledger.record("sample")
    assert record["outcome"].isna().all()
    assert record["settled_at"].notna().all()
    assert ledger.verify().ok


def test_a_challenger_is_scored_on_the_same_outcome(ledger: Ledger) -> None:
    issue(ledger, pd.concat([forecasts("AAPL"), forecasts("AAPL", role="challenger", model_version="b")]))
    ledger.settle(outcomes("AAPL"), universe="sample")
    assert ledger.record("sample", role="challenger")["outcome"].tolist() == [1.0]


@pytest.mark.parametrize("role", ["champion", "challenger"])
def test_an_outcome_without_a_champion_forecast_is_refused_with_all_the_others(
    ledger: Ledger, role: str
) -> None:
    issue(ledger, forecasts("AAPL"))
    issue(ledger, forecasts("TSLA", role=role), universe="other" if role == "champion" else "sample")
    with pytest.raises(LedgerError, match="TSLA, as_of 2018-12-10"):
        ledger.settle(outcomes("AAPL", "TSLA"), universe="sample")
    assert ledger.verify().outcomes == 0


def test_the_record_is_ordered_and_typed_even_when_it_is_empty(ledger: Ledger) -> None:
    empty = ledger.record("sample")
    issue(ledger, forecasts("MSFT", "AAPL", as_of=TUESDAY, target_session=WEDNESDAY), historical=True)
    issue(ledger, forecasts("MSFT", "AAPL"), historical=True)
    record = ledger.record("sample")
    assert record[["as_of", "symbol"]].apply(tuple, axis=1).tolist() == [
        (MONDAY, "AAPL"), (MONDAY, "MSFT"), (TUESDAY, "AAPL"), (TUESDAY, "MSFT"),
    ]  # fmt: skip
    assert empty.dtypes.to_dict() == record.dtypes.to_dict()
    assert len(validated(record, FORECASTS)) == 4


def test_forecasts_are_found_by_session(ledger: Ledger) -> None:
    assert ledger.last_as_of("sample") is None
    issue(ledger, forecasts("AAPL"))
    issue(ledger, forecasts("AAPL", as_of=TUESDAY, target_session=WEDNESDAY))
    assert ledger.last_as_of("sample") == TUESDAY
    assert ledger.forecasts("sample", as_of=MONDAY)["target_session"].tolist() == [TUESDAY]
    assert ledger.forecasts("sample", target_session=WEDNESDAY)["as_of"].tolist() == [TUESDAY]
    assert ledger.forecasts("sample", as_of=MONDAY, target_session=WEDNESDAY).empty


def test_reading_creates_no_file_and_reports_that_there_is_no_ledger_yet(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="no ledger yet"):
        Ledger(tmp_path / "ledger.sqlite", read_only=True)
    assert list(tmp_path.iterdir()) == []


def test_a_ledger_opened_for_reading_writes_nothing(ledger: Ledger) -> None:
    issue(ledger, forecasts("AAPL"))
    reader = Ledger(ledger.path, read_only=True)
    assert len(reader.record("sample")) == 1
    with pytest.raises(LedgerError, match="read-only"):
        issue(reader, forecasts("MSFT"))


def test_the_export_holds_every_row_and_reads_back_exactly(ledger: Ledger, tmp_path: Path) -> None:
    issue(ledger, forecasts("^GSPC", "AAPL", p_up=[1 / 3, 0.1 + 0.2]))
    issue(ledger, forecasts("AAPL"), universe="=tech")
    ledger.settle(outcomes("AAPL", realized_return=-0.01), universe="sample")
    ledger.export_csv("sample", tmp_path / "new" / "record.csv")
    read = pd.read_csv(tmp_path / "new" / "record.csv")
    assert read[["universe", "symbol", "as_of", "p_up", "realized_return"]].fillna(0).values.tolist() == [
        ["sample", "AAPL", "2018-12-10", 0.1 + 0.2, -0.01],
        ["sample", "^GSPC", "2018-12-10", 1 / 3, 0.0],
    ]
    assert read["opens_at"].tolist() == ["2018-12-11T14:30:00.000000+00:00"] * 2
    stream = io.StringIO()
    ledger.export_csv(None, stream)
    assert len(stream.getvalue().splitlines()) == 4
    assert "\n'=tech,AAPL," in stream.getvalue()
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["record.csv"]


def test_an_export_through_a_link_leaves_the_link(ledger: Ledger, tmp_path: Path) -> None:
    issue(ledger, forecasts("AAPL"))
    (tmp_path / "true.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to(tmp_path / "true.csv")
    ledger.export_csv("sample", tmp_path / "link.csv")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "true.csv").read_text().startswith("universe,symbol,")
