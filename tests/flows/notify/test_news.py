"""What an evening tells: each event once to each address, late where a run ended before it could tell."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from flows.nightly import nightly
from flows.notify.messages import (
    Event,
    Message,
    compose,
    describe_decay,
    describe_promotion,
    describe_quarantine,
)
from flows.notify.news import list_news, notifier_of, open_notifier, tell
from flows.operations.notify_checks import check_addresses
from flows.runtime.context import Run, open_run
from models.ensembles.model_files import model_version
from pipeline.monitoring.decay import Decay
from pipeline.notify_config import NotifyConfig
from pipeline.outputs import MAIN
from pipeline.prices.ingest.fetch_log import QuarantineEntry
from pipeline.storage.workspace import Workspace
from pipeline.tracking.registry import Registry
from tests.conftest import small_settings
from tests.flows.notify.conftest import SECRET
from tests.support.command_line import CommandLine, seal_with_model, told
from tests.support.receivers import Receiver

NOTIFY = '[notify]\nto = ["env:HOOK", "env:MAIL"]\n'


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mail: Receiver, web: Receiver) -> Run:
    """A workspace with one sealed forecast, for the session of 2018-12-11, and two addresses."""
    monkeypatch.chdir(tmp_path)
    Path("nextday.toml").write_text(f"[prices]\nstart = 2018-11-01\n{NOTIFY}")
    seal_with_model()
    return opened()


def opened() -> Run:
    return open_run(Path("nextday.toml"), Path("w"))


def tell_evening(run: Run, headline: str = "") -> None:
    tell(run, lambda: list_news(run, run.ledger.universe_record(run.name), headline))


def seal(run: Run, as_of: str, target: str, *, live: bool) -> None:
    """Seal one more forecast, in time or not."""
    record = run.ledger.universe_record(run.name)
    days = {"as_of": pd.Timestamp(as_of), "target_session": pd.Timestamp(target)}
    issued = pd.Timestamp(f"{as_of} 22:00", tz="UTC")
    row = record.forecasts(record.last_as_of).drop(columns="kind").assign(**days, issued_at=issued)
    types = {
        "as_of": "datetime64[us]",
        "target_session": "datetime64[us]",
        "issued_at": "datetime64[us, UTC]",
    }
    record.issue(
        row.astype(types),
        opens={days["as_of"]: (issued + timedelta(hours=12)).to_pydatetime()},
        newest_observed_at=issued.to_pydatetime(),
        historical=not live,
    )


def test_an_evening_is_told_once_to_each_address(run: Run, web: Receiver, mail: Receiver) -> None:
    for _ in range(3):
        tell_evening(opened(), "No edge found.")
    (request,), (received,) = web.requests, mail.mails
    assert request.json["title"] == "nextday sample: forecasts for Tue 2018-12-11"
    assert request.json["message"] == (
        "1 forecast for Tue 2018-12-11: 1 up (late); surest ^GSPC up 52.0% (base rate 53.0%). No edge found."
    )
    assert received["Subject"] == request.json["title"]


def test_an_address_that_failed_is_tried_again_and_the_others_are_not(
    run: Run, web: Receiver, mail: Receiver
) -> None:
    web.answer = 503
    tell_evening(run)
    (failed, passed) = check_addresses(opened())
    assert (failed.is_passed, passed.is_passed) == (False, True)
    assert "env:HOOK: the last attempt failed at" in failed.what
    assert "nextday notify test" in failed.fix
    web.answer = 200
    tell_evening(opened())
    assert (len(web.requests), len(mail.mails)) == (2, 1)
    assert [each.is_passed for each in check_addresses(opened())] == [True, True]


def test_an_evening_that_was_sealed_and_never_told_is_told_late_and_once(run: Run, web: Receiver) -> None:
    tell_evening(run)
    seal(run, "2018-12-11", "2018-12-12", live=True)  # and the run was killed
    seal(run, "2018-12-12", "2018-12-13", live=False)  # caught up: no news
    seal(run, "2018-12-13", "2018-12-14", live=True)
    for _ in range(2):
        tell_evening(opened())
    days = [request.json["title"].rpartition(" ")[2] for request in web.requests]
    assert days == ["2018-12-11", "2018-12-12", "2018-12-14"]


def test_a_first_address_hears_of_no_evening_before(run: Run, web: Receiver) -> None:
    seal(run, "2018-12-11", "2018-12-12", live=True)
    seal(run, "2018-12-12", "2018-12-13", live=True)
    tell_evening(run)
    assert len(web.requests) == 1


def test_a_run_with_a_given_clock_tells_nothing(run: Run, web: Receiver, mail: Receiver) -> None:
    tell_evening(open_run(Path("nextday.toml"), Path("w"), datetime(2018, 12, 11, 3, tzinfo=UTC)))
    assert (web.requests, mail.mails) == ([], [])


def test_only_what_was_asked_for_is_told_and_as_long_as_asked_for(
    run: Run, web: Receiver, mail: Receiver
) -> None:
    Path("nextday.toml").write_text(f"[prices]\nstart = 2018-11-01\n{NOTIFY}what = ['decay']\n")
    tell_evening(opened())
    assert web.requests == []
    shape = "length = 'table'\nattach = ['csv', 'link']\nreports_url = 'https://host.example/r/'\n"
    Path("nextday.toml").write_text(f"[prices]\nstart = 2018-11-01\n{NOTIFY}{shape}")
    csv = Path("w/reports/sample/2018-12-11/forecast.csv")
    csv.parent.mkdir(parents=True)
    csv.write_text("symbol\n")
    tell_evening(opened())
    lines = web.requests[0].json["message"].splitlines()
    assert lines[1:] == [
        "^GSPC up 52.0% (base rate 53.0%)",
        "https://host.example/r/sample/2018-12-11/report.html",
    ]
    assert [part.get_filename() for part in mail.mails[0].walk() if part.get_filename()] == ["forecast.csv"]


def test_a_new_entry_in_quarantine_is_told_and_an_old_one_is_not_again(run: Run, web: Receiver) -> None:
    def held(symbol: str) -> QuarantineEntry:
        return QuarantineEntry(symbol, symbol, datetime(2018, 12, 10, tzinfo=UTC), "late split", "x")

    for symbols in (["AB"], ["AB", "C_D*E"], ["AB", "C_D*E"]):
        notifier_of(run).send([describe_quarantine(run, [held(symbol) for symbol in symbols])])
    assert [request.json["message"].split(" ")[0] for request in web.requests] == ["AB", "C_D*E"]


def test_a_finding_of_the_decay_alarm_is_told_when_it_changes(run: Run, web: Receiver) -> None:
    first, later = pd.Timestamp("2018-06-01"), pd.Timestamp("2018-09-03")
    findings = [
        Decay(MAIN, "as expected", 90),
        Decay(MAIN, "doubtful", 100, 6.0, "backtest", None, first, 0.0, 0.001),
        Decay(MAIN, "doubtful", 101, 7.0, "backtest", None, first, 0.0, 0.001),
        Decay(MAIN, "decayed", 140, 25.0, "backtest", later, first, 0.0, 0.001),
        Decay(MAIN, "decayed", 141, 24.0, "backtest", later, first, 0.0, 0.001),
    ]
    for finding in findings:
        news = [(finding.key, finding.sentence)] if finding.is_news else []
        notifier_of(run).send(describe_decay(run, news))
    told = [request.json["message"].split(";")[0] for request in web.requests]
    assert told == ["next session: doubtful", "next session: decayed since 2018-09-03"]


def test_a_promotion_is_news_for_a_week(run: Run) -> None:
    model = Registry(run.workspace.home, model_version).serving(run.name)
    assert model is not None
    assert describe_promotion(run, model) == []  # of 2018
    recent = replace(model, promoted_at=run.clock() - timedelta(days=6))
    (message,) = describe_promotion(run, recent)
    assert message.events[0].text.startswith(f"{model.model_version} forecasts from now on: promoted")
    assert describe_promotion(run, None) == []


def test_a_long_list_of_events_is_cut(tmp_path: Path) -> None:
    events = [Event(f"quarantine {number}", f"S{number}") for number in range(14)]
    text = compose(Message("quarantine", "T", tuple(events)), events, NotifyConfig(), Workspace(tmp_path))
    assert text.splitlines()[-2:] == ["S9", "and 4 more"]


def test_no_address_is_stored_or_logged(
    run: Run, web: Receiver, mail: Receiver, capfd: pytest.CaptureFixture[str]
) -> None:
    tell_evening(run)
    web.answer = 500
    notifier_of(run).test()
    out = capfd.readouterr()
    assert SECRET not in out.out + out.err
    stored = [path for path in Path("w").rglob("*") if path.is_file()]
    assert stored
    assert [path for path in stored if SECRET.encode() in path.read_bytes()] == []


def test_a_damaged_log_costs_a_repetition_and_no_evening(run: Run, web: Receiver) -> None:
    tell_evening(run)
    run.workspace.notifications("sample").write_text('{"events": 3')
    tell_evening(opened())
    assert len(web.requests) == 2


def test_a_log_that_cannot_be_written_costs_no_evening(run: Run, web: Receiver) -> None:
    run.workspace.notifications("sample").parent.write_text("in the way")
    tell_evening(run)
    assert len(web.requests) == 1


def test_the_command_sends_a_test_to_every_address_and_says_which_one_failed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    web: Receiver,
    mail: Receiver,
) -> None:
    nextday = CommandLine(tmp_path, monkeypatch, capsys)
    asked = ("--config", "nextday.toml", "--home", "w", "notify", "test")
    nobody = nextday(*asked)
    assert nobody.code == 2
    assert "[notify] to is empty" in told(nobody)[0]
    Path("nextday.toml").write_text(NOTIFY)
    assert nextday(*asked).out.splitlines() == ["sent to env:HOOK", "sent to env:MAIL"]
    assert (len(web.requests), len(mail.mails)) == (1, 1)
    monkeypatch.delenv("MAIL")
    failed = nextday(*asked)
    assert failed.code == 1
    assert "FIX  env:MAIL: the environment variable MAIL is not set" in failed.err


def test_an_address_that_was_never_used_must_be_set_here(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(check.is_passed for check in check_addresses(run))
    monkeypatch.delenv("HOOK")
    assert [check.is_passed for check in check_addresses(run)] == [False, True]


@pytest.mark.slow
def test_a_real_evening_is_told_after_its_report_and_again_by_nobody(
    tmp_path: Path, web: Receiver, mail: Receiver
) -> None:
    config, home = tmp_path / "nextday.toml", tmp_path / "w"
    config.write_text(
        small_settings("2017-01-03") + NOTIFY + 'heartbeat = "env:BEAT"\nattach = ["html", "link"]\n'
    )
    page, pages = home / "reports" / "sample" / "2019-01-02" / "report.html", []
    for _ in range(2):
        nightly.fn(config=config, home=home)
        pages.append(page.read_bytes())
    assert [path for path in web.paths if path.endswith(("start", SECRET))] == [
        *(f"/{SECRET}/start", f"/{SECRET}", f"/{SECRET}", f"/{SECRET}"),  # two messages, and the success
        *(f"/{SECRET}/start", f"/{SECRET}"),
    ]
    titles = [received["Subject"] for received in mail.mails]
    assert titles == ["nextday sample: forecasts for Wed 2019-01-02", "nextday sample: a new champion"]
    (attached,) = [part for part in mail.mails[0].walk() if part.get_filename()]
    assert attached.get_payload(decode=True) == pages[0]
    assert open_notifier(config, home).log.events("evening") == ["evening 2019-01-02"]
