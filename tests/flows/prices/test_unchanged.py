"""Files that have not changed are not read and checked again; whatever else has changed, they are."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from flows.nightly import _newest_closed
from flows.prices import update
from flows.prices.update import PriceStatus, update_prices
from flows.runtime.context import Run, open_run
from pipeline.prices.ingest import last_reading
from pipeline.prices.ingest.fetch_log import QuarantineEntry
from pipeline.prices.ingest.last_reading import LastReading, load_reading, save_reading
from pipeline.prices.ingest.quality import no_findings
from pipeline.sources.files import FilesSource
from tests.conftest import NOW

SETTINGS = """
[universe]
name = "own"
source = "files"
path = "prices"
historical = true
[prices]
start = 2018-12-03
"""
DAYS = pd.bdate_range("2018-12-10", "2018-12-21")
SETTINGS_FILE, ACME = "nextday.toml", "prices/ACME.csv"


def write(path: Path, closes: list[float], days: pd.DatetimeIndex = DAYS) -> None:
    frame = pd.DataFrame({"date": days.strftime("%Y-%m-%d"), "close": closes})
    frame.to_csv(path, index=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "prices").mkdir()
    (tmp_path / SETTINGS_FILE).write_text(SETTINGS)
    write(tmp_path / ACME, [100.0 + i for i in range(10)])
    write(tmp_path / "prices/BOLT.csv", [50.0] * 9 + [-1.0])  # a row that the checks refuse
    (tmp_path / "prices/CRUX.csv").write_text("date,close\nnever,1\n")  # a file that cannot be read
    return tmp_path


def opened(folder: Path, now: str = "2018-12-22T12:00Z") -> Run:
    return open_run(folder / SETTINGS_FILE, folder / "data", pd.Timestamp(now).to_pydatetime())


@pytest.fixture
def evenings(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[PriceStatus, bool]]:
    """Return a function that updates the prices, and says whether they were read and checked for it."""
    checked = list[Run]()
    check_prices = update.check_prices

    def note(run: Run, *args: object) -> object:
        checked.append(run)
        return check_prices(run, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(update, "check_prices", note)

    def once(now: str = "2018-12-22T12:00Z") -> tuple[PriceStatus, bool]:
        run, before = opened(folder, now), len(checked)
        return update_prices(run), len(checked) > before

    return once


def test_the_second_run_reads_no_file_and_says_the_same(
    folder: Path,
    evenings: Callable[..., tuple[PriceStatus, bool]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    first, is_read = evenings()
    told = [*caplog.messages]
    assert is_read
    caplog.clear()
    monkeypatch.delattr(FilesSource, "_content")
    again, is_read = evenings()
    assert not is_read
    pd.testing.assert_frame_equal(again.findings, first.findings)
    assert len(first.findings) > 0
    assert (again.missing, again.as_of, again.seq) == (first.missing, first.as_of, first.seq)
    assert "-1" in again.missing["BOLT"]
    assert _newest_closed(opened(folder)) == DAYS[-1]
    lines = caplog.messages
    unread = [line for line in told if "is not read" in line]
    assert unread
    assert [line for line in lines if "is not read" in line] == unread
    assert any(
        "unchanged since the last run: 20 bars are not read and checked again" in line for line in lines
    )


def _edit(folder: Path) -> None:
    write(folder / ACME, [101.0 + i for i in range(10)])


def _add_file(folder: Path) -> None:
    write(folder / "prices/DYNE.csv", [10.0] * 10)


def _rename(folder: Path) -> None:
    (folder / ACME).rename(folder / "prices/AXIS.csv")


def _set(folder: Path) -> None:
    (folder / SETTINGS_FILE).write_text(SETTINGS.replace("2018-12-03", "2018-12-04"))


def _hold(folder: Path) -> None:
    run = opened(folder)
    run.fetch_log.record_quarantine("held", [QuarantineEntry("ACME", "ACME", NOW, "a rule", "evidence")], NOW)


def _lose_prices(folder: Path) -> None:
    opened(folder).store.folder.rename(folder / "lost")


def _damage(folder: Path) -> None:
    path = opened(folder).workspace.last_reading("own")
    path.write_text(path.read_text().replace("BOLT", "BOLD"))


def _cut(folder: Path) -> None:
    opened(folder).workspace.last_reading("own").write_bytes(b"\xff")


def test_after_any_change_all_is_read_again(
    folder: Path, evenings: Callable[..., tuple[PriceStatus, bool]]
) -> None:
    evenings()
    for change in (_edit, _add_file, _rename, _hold, _damage, _cut, _lose_prices, _set):
        change(folder)
        assert evenings()[1], change.__name__
    assert not evenings()[1]


def test_another_session_or_another_code_reads_again(
    evenings: Callable[..., tuple[PriceStatus, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    evenings("2018-12-20T23:00Z")
    assert evenings("2018-12-21T23:00Z")[1]
    monkeypatch.setattr("flows.runtime.sources.digest_code", lambda: "of another version")
    assert evenings("2018-12-21T23:00Z")[1]


def test_a_file_that_changes_while_it_is_read_is_read_again(
    folder: Path, evenings: Callable[..., tuple[PriceStatus, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    explain = update.explain_missing

    def edit_and_explain(*args: object) -> object:
        _edit(folder)
        return explain(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(update, "explain_missing", edit_and_explain)
    evenings()
    assert evenings()[1]


@pytest.mark.parametrize("n", [0, 2])
def test_a_reading_comes_back_as_it_was(tmp_path: Path, n: int) -> None:
    sessions = pd.to_datetime(DAYS[:n]).astype("datetime64[us]")
    findings = pd.DataFrame({"symbol": ["A", "B"][:n], "session": sessions, "rule": "r", "detail": 'x\n"é'})
    findings = findings.astype(object)
    reading = LastReading(
        "f", last_reading.digest_code(), "c", ["A", "B"], DAYS[0], 7,
        findings if n else no_findings(), {"A": "why"}, True, {"B": None}, ["a line"],
    )  # fmt: skip
    save_reading(tmp_path / "reading.json", reading)
    found = load_reading(tmp_path / "reading.json")
    assert found
    pd.testing.assert_frame_equal(found.findings, reading.findings)
    assert {**vars(found), "findings": 0} == {**vars(reading), "findings": 0}
