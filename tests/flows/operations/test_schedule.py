"""A schedule is compared with the exchange's sessions, by the doctor and by `nextday deploy`."""

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from flows.operations import deploy
from flows.operations.doctor import examine
from flows.operations.schedule import check_schedule
from flows.runtime.context import Run, open_run
from pipeline.errors import ConfigError
from pipeline.ledger.ledger import Ledger
from tests.flows.operations.conftest import NOBODY, Patient
from tests.pipeline.ledger.test_sealed_ledger import issue

pytestmark = pytest.mark.usefixtures("no_server")

NOW = datetime(2026, 2, 2, 6, tzinfo=UTC)
"""Nine in the morning of a Monday in Riyadh, an hour before the open."""


@pytest.fixture
def riyadh(patient: Patient) -> Patient:
    write(patient, "XSAU")
    return patient


def write(patient: Patient, exchange: str, lines: str = "", delay: int = 45) -> None:
    patient.config.write_text(
        f'[universe]\nname = "sample"\nsource = "files"\npath = "a.csv"\ncalendar = "{exchange}"\n'
        f"[prices]\nstart = 2025-06-02\ndelay_minutes = {delay}\n[schedule]\n{lines}\n"
    )
    patient.config.with_name("a.csv").write_text("Date,Symbol,Open,High,Low,Close\n2026-01-05,A,1,1,1,1\n")


def opened(patient: Patient) -> Run:
    return open_run(patient.config, patient.home, NOW)


@pytest.mark.parametrize(
    ("exchange", "nightly"),
    [
        ("XNYS", "30 18 * * MON-FRI"),
        ("XNYS", "45 16 * * *"),  # the minute at which a session counts as closed
        ("XNYS", "0 8 * * TUE-SAT"),  # the morning after
        ("XNYS", "0 9 * * MON-FRI"),  # the morning before the open
        ("XNYS", "*/10 * * * *"),
        ("XTKS", "30 18 * * MON-FRI"),
        ("XSAU", "30 18 * * SUN-THU"),
        ("XBOM", "30 18 * * MON-FRI"),  # it traded on Sunday the 1st of February 2026
    ],
)
def test_a_schedule_with_a_start_after_every_session_fits(
    patient: Patient, exchange: str, nightly: str
) -> None:
    write(patient, exchange, f'nightly = "{nightly}"')
    check_schedule(opened(patient), "[schedule]")


@pytest.mark.parametrize(
    ("exchange", "nightly", "delay", "said", "fix"),
    [
        ("XSAU", "30 18 * * MON-FRI", 45, "the sessions of Sundays", "30 18 * * SUN-THU"),
        ("XNYS", "30 18 * * MON-THU", 45, "the sessions of Fridays", "30 18 * * MON-FRI"),
        ("XNYS", "0 16 * * MON-FRI", 45, "every forecast would be late", "0 17 * * MON-FRI"),
        ("XNYS", "30 18 * * MON-FRI", 180, "every forecast would be late", "30 19 * * MON-FRI"),
        ("XNYS", "30 13 * * MON-FRI", 45, "America/New_York", "0 17 * * MON-FRI"),  # meant in UTC
        ("XHEL", "30 18 * * MON-FRI", 45, "19:15 to", "30 19 * * MON-FRI"),
        ("XNYS", "0 18 * * FRI", 45, "Mondays, Tuesdays, Wednesdays and Thursdays", "0 18 * * MON-FRI"),
        ("XNYS", "@hourly", 1440, "delay_minutes = 1440", "lower it"),
        ("XNYS", "@yearly", 45, "every forecast would be late", "0 17 * * MON-FRI"),
        ("XNYS", "30 18 31 2 *", 45, "'30 18 31 2 *' never starts", "a day that exists"),
    ],
)
def test_a_schedule_that_leaves_sessions_without_a_start_in_time_does_not(
    patient: Patient, exchange: str, nightly: str, delay: int, said: str, fix: str
) -> None:
    write(patient, exchange, f'nightly = "{nightly}"', delay)
    with pytest.raises(ConfigError) as refused:
        check_schedule(opened(patient), "n.toml")
    assert said in refused.value.what
    assert fix in refused.value.fix
    assert refused.value.exit_code == 2


def test_every_faulty_line_is_named_at_once(riyadh: Patient) -> None:
    write(riyadh, "XNYS", 'nightly = "0 16 * * MON-FRI"\nretrain = "Saturday"\nmaintenance = "0 0 31 2 *"')
    with pytest.raises(ConfigError) as refused:
        check_schedule(opened(riyadh), "n.toml")
    for line in (
        "nightly = '0 16 * * MON-FRI' never",
        "retrain = 'Saturday' is not",
        "maintenance = '0 0 31 2 *'",
    ):
        assert line in refused.value.what


def test_a_historical_source_has_no_evenings_to_miss(riyadh: Patient) -> None:
    text = riyadh.config.read_text()
    riyadh.config.write_text(text.replace("[prices]", "historical = true\n[prices]"))
    check_schedule(opened(riyadh), "n.toml")


@pytest.fixture
def sealed(riyadh: Patient, monkeypatch: pytest.MonkeyPatch) -> Patient:
    """A workspace whose last forecast is from Thursday: the nightly run of Friday, the last planned one, made it."""
    issue(Ledger(riyadh.home / "ledger.sqlite"), 0, ["A"])
    monkeypatch.setattr(Ledger, "last_as_of", lambda *_: pd.Timestamp("2026-01-29"))
    return riyadh


def test_the_doctor_fails_although_every_planned_evening_took_place(sealed: Patient) -> None:
    found = examine(sealed.config, sealed.home, NOW)
    assert any("the last session is forecast: from 2026-01-29" in item.what for item in found)
    (said,) = [item for item in found if "the sessions of Sundays" in item.what]
    assert not said.is_passed
    assert 'nightly = "30 18 * * SUN-THU"' in said.fix


def test_a_session_is_due_once_the_next_one_opens_whatever_the_schedule(sealed: Patient) -> None:
    found = examine(sealed.config, sealed.home, datetime(2026, 2, 2, 7, 1, tzinfo=UTC))
    assert any("no forecast from 2026-02-01" in item.what for item in found)


class Client:
    """A server's deployments of nextday."""

    def __init__(self, name: str, universe: str, config: Path) -> None:
        self._found = SimpleNamespace(
            name=name,
            tags=["nextday", universe],
            entrypoint="flows/nightly.py:nightly",
            parameters={"config": str(config)},
        )

    def read_deployments(self, **_: object) -> list[Any]:
        return [self._found]


@pytest.mark.parametrize(
    ("name", "universe"),
    [
        ("nightly-sample", "sample"),  # two settings files with one universe name
        ("nightly", "sample"),  # and one of them is that of a checkout
        ("nightly-sample", "other"),
    ],
)
def test_a_deployment_of_another_settings_file_is_not_replaced(
    riyadh: Patient, name: str, universe: str
) -> None:
    other = riyadh.config.with_name("other.toml")
    other.touch()
    with pytest.raises(ConfigError) as refused:
        deploy._require_own_names(
            Client(name, universe, other),  # type: ignore[arg-type]
            NOBODY,
            opened(riyadh),
            riyadh.config,
            "-sample",
        )
    assert str(other) in refused.value.what
    assert refused.value.where == str(riyadh.config)
    assert f" as nightly/{name}" in refused.value.what
    assert "deployment delete NAME" in refused.value.fix


def test_a_path_that_prefect_would_fill_in_is_not_deployed(riyadh: Patient) -> None:
    write(riyadh, "XSAU", 'nightly = "30 18 * * SUN-THU"')
    home = riyadh.home / "{{ x }}"
    with pytest.raises(ConfigError) as refused:
        deploy.deploy(riyadh.config, home)
    assert refused.value.where == str(home)


@pytest.mark.parametrize(
    ("name", "universe", "file", "exists"),
    [
        ("nightly-sample", "sample", "nextday.toml", True),  # deployed again
        ("nightly-sample", "sample", "moved.toml", False),
        ("nightly-london", "london", "london.toml", True),
    ],
)
def test_ones_own_deployments_and_those_of_a_moved_file_are_replaced(
    riyadh: Patient, name: str, universe: str, file: str, exists: bool
) -> None:
    other = riyadh.config.with_name(file)
    if exists:
        other.touch()
    client: Any = Client(name, universe, other)
    deploy._require_own_names(client, NOBODY, opened(riyadh), riyadh.config, "-sample")
