"""Challengers through whole evenings: they forecast beside the champion, and replace it only when they may."""

import json
import shutil
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from flows.evening.retraining import Retrained
from flows.nightly import Evening, nightly
from flows.operations.champions import promote_by_hand, roll_back, withdraw
from flows.retrain import retrain
from flows.runtime.context import open_run
from flows.runtime.tracking import tracking
from models.ensembles.model_files import model_version
from pipeline.errors import InputError
from pipeline.ledger.ledger import Ledger
from pipeline.market.calendar import Calendar
from pipeline.schema import FORECAST_KEY
from pipeline.tracking.challengers import ChallengerBook
from pipeline.tracking.mlflow_aliases import read_aliases
from pipeline.tracking.registry import Registry
from pipeline.tracking.runs import Tracking
from tests.conftest import small_settings
from tests.support.own_process import EVENING

pytestmark = [pytest.mark.slow, pytest.mark.own_process(*EVENING)]

RULE = "\n[promotion]\nmin_sessions = 3\nmax_age = {age}\n"


class Desk:
    """A workspace whose settings may change from evening to evening."""

    def __init__(self, folder: Path, xnys: Calendar) -> None:
        self.config, self.home, self.calendar = folder / "nextday.toml", folder / "data", xnys
        self.ask(small_settings() + RULE.format(age=63))

    def ask(self, settings: str) -> None:
        self.config.write_text(settings)

    def clock(self, session: str) -> datetime:
        return (self.calendar.closes[pd.Timestamp(session)] + timedelta(hours=2)).to_pydatetime()

    def evening(self, session: str) -> Evening:
        return nightly.fn(config=self.config, home=self.home, now=self.clock(session))

    def retrain(self, session: str, **options: object) -> Retrained:
        return retrain.fn(**{"config": self.config, "home": self.home, "now": self.clock(session), **options})

    def rows(self, role: str = "champion") -> pd.DataFrame:
        return Ledger(self.home / "ledger.sqlite").record("sample", role=role)

    @property
    def serving(self) -> str:
        model = Registry(self.home, model_version).serving("sample")
        assert model is not None
        return model.model_version

    @property
    def book(self) -> ChallengerBook:
        return ChallengerBook(self.home)


def aliases(book: Tracking) -> dict[str, str]:
    return read_aliases(book._client, "nextday-sample")


@dataclass(frozen=True)
class Begun:
    """A workspace after its first evening, 2018-12-03, and a copy in which a challenger was trained a session later."""

    first: Evening
    after_first: Path
    retrained: Retrained
    after_training: Path


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory, xnys: Calendar) -> Begun:
    folder = tmp_path_factory.mktemp("challengers")
    first = Desk(folder, xnys).evening("2018-12-03")
    trained = shutil.copytree(folder, tmp_path_factory.mktemp("trained") / "copy")
    return Begun(first, folder, Desk(trained, xnys).retrain("2018-12-04"), trained)


@pytest.fixture
def desk(begun: Begun, tmp_path: Path, xnys: Calendar) -> Desk:
    """Return a workspace after its first evening."""
    return Desk(shutil.copytree(begun.after_first, tmp_path / "copy"), xnys)


@pytest.fixture
def trained(begun: Begun, tmp_path: Path, xnys: Calendar) -> Desk:
    """Return a workspace with a challenger that has forecast nothing yet."""
    return Desk(shutil.copytree(begun.after_training, tmp_path / "copy"), xnys)


def test_a_challenger_forecasts_beside_the_champion_and_replaces_an_old_one(
    begun: Begun, trained: Desk
) -> None:
    desk, before = trained, trained.serving
    assert begun.retrained.evaluation is not None
    [challenger] = desk.book.challengers("sample")
    assert desk.serving == before != challenger.model_version
    assert (
        f"{challenger.model_version} is the challenger 'retrain': after 3 settled sessions"
        in begun.retrained.sentence
    )

    # Its rows are sealed in their own role, and the official ones are those of the champion alone.
    evenings = {day: desk.evening(f"2018-12-{day:02d}") for day in (4, 6, 7)}
    assert set(desk.rows()["model_version"]) == {before}
    beside = desk.rows("challenger")
    assert set(beside["model_version"]) == {challenger.model_version}
    assert beside["p_up"].tolist() != desk.rows()["p_up"].tolist()
    assert set(evenings[7].report.forecasts["model_version"]) == {before}
    official = pd.read_csv(desk.home / "reports" / "sample" / "latest.csv")
    assert set(official["model_version"]) == {before}
    shared = desk.rows().merge(beside, on=FORECAST_KEY)
    settled = shared.dropna(subset=["outcome_x"])
    assert (settled["outcome_x"] == settled["outcome_y"]).all()
    [standing] = evenings[6].report.challengers
    assert "1 of 3 shadow sessions" in standing.sentence
    page = evenings[7].paths.html.read_text()
    assert "Challengers beside the champion" in page
    assert challenger.model_version in page
    own, other = json.loads(evenings[7].paths.record_json.read_text())["figures"]
    assert (own["role"], own["model_version"]) == ("champion", None)
    assert (other["role"], other["model_version"]) == ("challenger", challenger.model_version)
    assert other["settled"] == beside["outcome"].notna().sum() > 0

    # A second training of the same procedure waits until the first one is decided on; not one of other settings.
    assert desk.retrain("2018-12-07").evaluation is None
    desk.ask(small_settings() + RULE.format(age=3))
    evening = desk.evening("2018-12-10")
    assert desk.serving == challenger.model_version, evening.report.challengers
    assert any("A new champion serves" in note for note in evening.report.notes)
    assert evening.report.model["serves because"].startswith("age: challenger retrain")
    newest = desk.rows()[desk.rows()["as_of"] == pd.Timestamp("2018-12-10")]
    assert set(newest["model_version"]) == {desk.serving}
    assert [each.reason for each in desk.book.promotions("sample")] == ["first", "age"]
    assert begun.first.report.model["serves because"] == "first: the first champion"


def test_a_challenger_that_has_not_had_its_sessions_is_not_trained_again(trained: Desk) -> None:
    desk = trained
    [standing] = desk.book.challengers("sample")
    again = desk.retrain("2018-12-04")
    assert again.evaluation is None
    assert "has had 0 of 3 sessions beside the champion" in again.sentence
    assert desk.book.challengers("sample") == [standing]
    # Other settings are another procedure: their training takes its place.
    desk.ask(small_settings() + '\n[features]\nset = "closes"\n' + RULE.format(age=63))
    desk.retrain("2018-12-04")
    [other] = desk.book.challengers("sample")
    assert other.model_version != standing.model_version


def test_every_training_is_promoted_where_the_rule_says_so(desk: Desk) -> None:
    desk.ask(small_settings() + '\n[promotion]\nrule = "always"\n')
    told = desk.retrain("2018-12-04").sentence
    assert f"the new champion is {desk.serving}: every training is promoted" in told
    assert desk.book.challengers("sample") == []


def test_by_hand_the_champion_changes_and_changes_back_with_the_reason_written_down(trained: Desk) -> None:
    desk, before, rows = trained, trained.serving, trained.rows()
    [challenger] = desk.book.challengers("sample")
    place = {"config": desk.config, "home": desk.home, "now": desk.clock("2018-12-04")}
    promote_by_hand(challenger.model_version[:6], "I saw it work", **place)
    assert desk.serving == challenger.model_version
    assert desk.book.challengers("sample") == []
    assert promote_by_hand(challenger.model_version, "", **place).version == desk.serving
    with pytest.raises(InputError, match="No models of 'sample' have the version 'nope'"):
        promote_by_hand("nope", "", **place)
    roll_back("", **place)
    assert desk.serving == before
    noted = desk.book.promotions("sample")
    assert [(each.reason, each.former) for each in noted] == [
        ("first", ""),
        ("by hand", before),
        ("by hand", challenger.model_version),
    ]
    assert noted[1].sentence == "I saw it work"
    assert noted[1].by
    sealed = [*FORECAST_KEY, "p_up", "direction", "model_version", "issued_at"]
    pd.testing.assert_frame_equal(desk.rows()[sealed], rows[sealed])


def test_another_procedure_challenges_under_its_own_name_and_a_broken_one_costs_nothing(
    trained: Desk,
) -> None:
    desk = trained
    other = desk.config.with_name("wide.toml")
    other.write_text(small_settings() + '\n[features]\nset = "closes"\n')
    desk.retrain("2018-12-04", config=other, name="wide")
    assert [each.name for each in desk.book.challengers("sample")] == ["retrain", "wide"]
    desk.evening("2018-12-04")
    assert desk.rows("challenger")["model_version"].nunique() == 2
    wide = desk.book.challengers("sample")[1]
    (desk.home / "models" / "sample" / wide.model_version / "output-1.skops").write_bytes(b"damaged")
    evening = desk.evening("2018-12-06")
    assert evening.new_rows == 2
    assert any("The challenger wide made no forecast" in note for note in evening.report.notes)
    book = tracking(open_run(desk.config, desk.home, desk.clock("2018-12-06")))
    assert {*aliases(book)} == {"champion", "challenger-wide", "challenger-retrain"}
    place = {"config": desk.config, "home": desk.home, "now": desk.clock("2018-12-06")}
    assert withdraw("wide", **place) == wide
    assert {*aliases(book)} == {"champion", "challenger-retrain"}
    with pytest.raises(InputError, match="No challenger of 'sample' is called 'wide'"):
        withdraw("wide", **place)


def test_a_damaged_list_of_challengers_is_told(trained: Desk) -> None:
    desk = trained
    path = desk.home / "models" / "sample" / "challengers.json"
    entries = json.loads(path.read_text())
    entries[0]["since"] = "2018-01-02"
    path.write_text(json.dumps(entries))
    with pytest.raises(Exception, match="The list of challengers cannot be read: the entry of") as told:
        desk.book.challengers("sample")
    assert str(path) in str(told.value)
    (desk.home / "models" / "sample" / "promotions.json").write_text("[")
    evening = desk.evening("2018-12-04")
    assert evening.new_rows == 2
    assert any("The list of challengers cannot be read" in note for note in evening.report.notes)


def test_settings_of_another_universe_do_not_challenge(desk: Desk) -> None:
    other = desk.config.with_name("other.toml")
    other.write_text(small_settings() + '\n[universe]\nname = "sample"\nsymbols = ["^GSPC"]\n')
    with pytest.raises(InputError, match="these settings describe another"):
        desk.retrain("2018-12-04", config=other, name="other")
    more = desk.config.with_name("more.toml")
    more.write_text(small_settings() + "\n[labels]\nhorizons = [1, 2]\n")
    desk.retrain("2018-12-04", config=more, name="more")
    [standing] = desk.evening("2018-12-04").report.challengers
    assert standing.name == "more"
    assert "0 of 3 shadow sessions" in standing.decision.sentence
