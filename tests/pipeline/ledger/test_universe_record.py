from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest

from pipeline.errors import LedgerError
from pipeline.ledger.ledger import Ledger, UniverseRecord
from tests.pipeline.ledger.test_ledger import (
    EVENING,
    MONDAY,
    OPEN,
    SECOND,
    TUESDAY,
    WEDNESDAY,
    forecasts,
    issue,
    outcomes,
)

NEXT = {"as_of": TUESDAY, "target_session": WEDNESDAY}


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    made = Ledger(tmp_path / "ledger.sqlite")
    issue(made, forecasts("AAPL", "MSFT"))
    issue(made, forecasts("AAPL", role="challenger", model_version="lstm-1"))
    issue(made, forecasts("AAPL"), universe="other")
    return made


def agrees(record: UniverseRecord, ledger: Ledger) -> bool:
    """Compare a record with what the ledger answers now."""
    pd.testing.assert_frame_equal(record.rows, ledger.record("sample"))
    pd.testing.assert_frame_equal(record.corrections, ledger.corrections("sample"))
    return (record.head, record.last_as_of) == (ledger.head(), ledger.last_as_of("sample"))


def seal(record: UniverseRecord, frame: pd.DataFrame) -> pd.DataFrame:
    opens = {MONDAY: OPEN, TUESDAY: OPEN + timedelta(days=1)}
    return record.issue(frame, opens=opens, newest_observed_at=EVENING - SECOND, historical=False)


def test_a_record_is_what_the_ledger_holds_after_everything_that_was_written_through_it(
    ledger: Ledger,
) -> None:
    record = ledger.universe_record("sample")
    assert agrees(record, ledger)
    assert record.forecasts(MONDAY)["symbol"].tolist() == ["AAPL", "MSFT"]
    assert record.forecasts(TUESDAY).empty

    standing = seal(record, forecasts("AAPL", "ZZZ", **NEXT))
    assert standing["is_new"].all()
    assert agrees(record, ledger)
    # A symbol of a session that has rows already lies between them.
    seal(record, forecasts("LATE", "MSFT"))
    assert agrees(record, ledger)
    assert record.forecasts(MONDAY)["symbol"].tolist() == ["AAPL", "LATE", "MSFT"]

    assert record.settle(outcomes("AAPL", "MSFT", realized_return=-0.0)) == 2
    assert agrees(record, ledger)
    assert record.settle(outcomes("AAPL", outcome=0.0, realized_return=-0.5)) == 0
    assert agrees(record, ledger)
    assert len(record.corrections) == 1


def test_a_record_that_could_not_be_written_is_what_it_was(ledger: Ledger) -> None:
    record = ledger.universe_record("sample")
    with pytest.raises(LedgerError, match="no champion forecast"):
        record.settle(outcomes("NEVER"))
    assert agrees(record, ledger)


def test_an_empty_record_has_no_last_session(tmp_path: Path) -> None:
    empty = Ledger(tmp_path / "ledger.sqlite")
    record = empty.universe_record("sample")
    assert record.last_as_of is None
    assert agrees(record, empty)
    seal(record, forecasts())
    assert agrees(record, empty)


def test_each_transaction_opens_the_file_once(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.ledger import hash_chain

    opens, opened = [], hash_chain.opened
    monkeypatch.setattr(hash_chain, "opened", lambda path: (opens.append(path), opened(path))[1])
    record = ledger.universe_record("sample")
    seal(record, forecasts(**NEXT))
    record.settle(outcomes())
    assert len(opens) == 3
