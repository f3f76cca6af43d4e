"""Workspaces that share their models through an MLflow server, which a process of its own runs on loopback."""

import hashlib
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipeline.errors import InputError, StoreError, TrackingUnreachableError
from pipeline.schema import SCORES, empty
from pipeline.storage.files import digest_files
from pipeline.storage.workspace import Workspace
from pipeline.tracking.challengers import Challenger, ChallengerBook, Promotion
from pipeline.tracking.mlflow_database import open_client
from pipeline.tracking.mlflow_server import locate_server, open_server
from pipeline.tracking.registry import Registry
from pipeline.tracking.runs import Tracking
from tests.support.mlflow_server import PASSWORD, SharedMlflow, mlflow_server

pytestmark = pytest.mark.slow

NOW = datetime(2018, 12, 31, 22, tzinfo=UTC)


def digest(folder: Path) -> str:
    content = [(path.name, path.read_bytes().hex()) for path in sorted(folder.iterdir())]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedMlflow]:
    folder = tmp_path_factory.mktemp("mlflow")
    open_client(folder)  # its database, which takes the server seconds to make
    with mlflow_server(folder) as running:
        yield running


class Machine:
    """A workspace on a machine of its own."""

    def __init__(self, home: Path, universe: str, server: SharedMlflow) -> None:
        self.home, self.universe = home, universe
        self.tracking = Tracking(home, digest, locate_server(server.url))
        assert self.tracking.shared
        self.shared, self.book = self.tracking.shared, ChallengerBook(home)
        self.registry = Registry(home, digest, fetch=self.shared.fetch)

    def train(self, content: str, tracking: Tracking | None = None) -> str:
        draft = self.home / "draft"
        draft.mkdir(parents=True)
        (draft / "model.json").write_text(content)
        (draft / "member-1.keras").write_bytes(content.encode() * 1000)
        version = digest(draft)
        folder = Workspace(self.home).model(self.universe, version)
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft.rename(folder)
        evaluation = Workspace(self.home).evaluation(self.universe, version)
        evaluation.mkdir(parents=True)
        (evaluation / "scores.csv").write_text(f"{content}\n")
        (tracking or self.tracking).record_training(
            universe=self.universe,
            run_name=content,
            config={},
            config_digest="c0ffee",
            model_dir=folder,
            model_version=version,
            tags={"trained_through": "2018-12-31", "verdict": "no edge found"},
            epochs=pd.DataFrame({"fit": ["score"], "member": [1], "epoch": [1], "loss": [0.7]}),
            scores=empty(SCORES),
            scored_model="gru",
            artifacts=sorted(evaluation.iterdir()),
            evaluation=digest_files(evaluation),
        )
        return version

    def promote(self, version: str, at: datetime = NOW) -> None:
        """Promote as the flow does: on the server first."""
        self.follow()
        serving = self.registry.serving(self.universe)
        former = serving.model_version if serving else ""
        made = Promotion(version, former, at.isoformat(), "better", f"{version} is better")
        self.shared.announce(self.universe, made)
        self.book.note(self.universe, made)
        self.tracking.promote(self.universe, version, promoted_at=at)

    def follow(self) -> list[str]:
        return self.shared.follow(self.universe, NOW)

    def champion(self) -> str:
        found = self.registry.champion(self.universe)
        return found.model_version if found else ""

    def lists(self) -> dict[str, Any]:
        folder = self.home / "models" / self.universe
        return {path.name: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


@pytest.fixture
def machines(
    server: SharedMlflow, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Machine]:
    """Return what makes a machine; those of a test have a universe of its own on the server."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    universe = hashlib.sha256(request.node.name.encode()).hexdigest()[:10]
    return lambda name: Machine(tmp_path / name, universe, server)


@pytest.fixture
def mlflow(server: SharedMlflow, machines: Callable[[str], Machine]) -> Any:
    """MLflow's own client, as a person would use it."""
    place = locate_server(server.url)
    assert place
    return open_server(place)


def test_a_second_machine_has_the_same_champion_and_lists_and_fetches_its_files_once(
    machines: Callable[[str], Machine], server: SharedMlflow, capfd: pytest.CaptureFixture[str]
) -> None:
    one, other = machines("one"), machines("other")
    assert one.follow() == []
    first, second = one.train("a"), one.train("b")
    one.promote(first)
    one.promote(second, NOW + timedelta(days=1))

    told = other.follow()
    assert told == [f"the champion is {second}, as MLflow says ({server.url})"]
    assert other.lists() == one.lists()
    assert other.champion() == second
    for place in ("models", "evaluations"):
        copies = [each.home / place / one.universe / second for each in (one, other)]
        assert digest_files(copies[0]) == digest_files(copies[1]) != {}
    assert not (other.home / "models" / one.universe / first).exists()

    server.asked.clear()
    assert other.champion() == second
    assert server.asked == []
    assert other.follow() == []
    assert len(server.asked) == 2
    assert capfd.readouterr() == (
        "",
        "",
    )  # MLflow prints the address of each run that ends, and what it waits for


def test_a_damaged_copy_is_fetched_again_and_a_damaged_original_is_named(
    machines: Callable[[str], Machine], mlflow: Any
) -> None:
    one, other = machines("one"), machines("other")
    version = one.train("a")
    one.promote(version)
    other.follow()
    copy = other.home / "models" / one.universe / version / "member-1.keras"
    assert other.champion() == version
    copy.write_bytes(b"flipped")
    assert other.champion() == version
    assert copy.read_bytes() == b"a" * 1000

    damaged = other.home / "member-1.keras"
    damaged.write_bytes(b"flipped")
    (run,) = {each.run_id for each in other.registry.versions(one.universe)}
    mlflow.log_artifact(run, str(damaged), "model")
    copy.write_bytes(b"flipped")
    with pytest.raises(StoreError, match=r"MLflow's files of the model .* are damaged"):
        other.champion()


def test_challengers_enter_and_leave_on_any_machine(machines: Callable[[str], Machine], mlflow: Any) -> None:
    one, other = machines("one"), machines("other")
    versions = [one.train(content) for content in "abc"]
    one.promote(versions[0])
    for name, version in zip(("retrain", "wide"), versions[1:], strict=True):
        one.book.enter(one.universe, name, version, NOW, pd.Timestamp("2018-12-31"))
    one.shared.show_challengers(one.universe)
    other.follow()
    assert other.book.challengers(one.universe) == [
        Challenger("retrain", versions[1], NOW.isoformat(), "2018-12-31"),
        Challenger("wide", versions[2], NOW.isoformat(), "2018-12-31"),
    ]
    other.book.withdraw(one.universe, "retrain")
    other.shared.show_challengers(one.universe)
    one.follow()
    assert [each.name for each in one.book.challengers(one.universe)] == ["wide"]
    (model,) = mlflow.search_registered_models(f"name = 'nextday-{one.universe}'")
    assert set(model.aliases) == {"champion", "challenger-wide"}


def test_a_promotion_that_was_killed_halfway_is_none_and_is_written_down_once_when_it_is_repeated(
    machines: Callable[[str], Machine], server: SharedMlflow
) -> None:
    one, other = machines("one"), machines("other")
    first, second = one.train("a"), one.train("b")
    one.promote(first)
    before = one.lists()
    asked = len(server.asked)
    one.follow()
    reads = len(server.asked) - asked
    # Of the announcement the reads and the note of the promotion are answered, the alias is not.
    made = Promotion(second, first, (NOW + timedelta(days=1)).isoformat(), "better", "it is better")
    with (
        server.failing("cut", after=reads + 1),
        pytest.raises(TrackingUnreachableError, match="not promoted"),
    ):
        one.shared.announce(one.universe, made)
    for machine in (one, other):
        machine.follow()
        assert machine.champion() == first
        assert machine.lists() == before
    other.promote(second, NOW + timedelta(days=2))
    one.follow()
    assert one.champion() == second
    assert [each.model_version for each in one.book.promotions(one.universe)] == [first, second]


def test_an_alias_moved_in_mlflow_is_a_promotion_by_hand_and_a_deleted_one_comes_back(
    machines: Callable[[str], Machine], mlflow: Any
) -> None:
    one, other = machines("one"), machines("other")
    first, second = one.train("a"), one.train("b")
    one.promote(second)
    other.follow()
    name = f"nextday-{one.universe}"
    mlflow.set_registered_model_alias(name, "champion", "1")
    assert any("the alias was moved in MLflow" in line for line in other.follow())
    one.follow()
    assert one.champion() == other.champion() == first
    noted = one.book.promotions(one.universe)
    assert [(each.model_version, each.former, each.reason) for each in noted] == [
        (second, "", "better"),
        (first, second, "by hand"),
    ]
    mlflow.delete_registered_model_alias(name, "champion")
    assert other.follow() == [f"MLflow's alias 'champion' named no model: it names {first} now"]
    assert one.follow() == []
    assert one.champion() == first


def test_a_workspace_that_worked_alone_takes_its_models_along_and_another_one_is_refused(
    machines: Callable[[str], Machine],
) -> None:
    one, other, third = machines("one"), machines("other"), machines("third")
    for machine, content in ((one, "a"), (other, "b")):
        alone = Tracking(machine.home, digest)
        version = machine.train(content, alone)
        machine.book.note(one.universe, Promotion(version, "", NOW.isoformat(), "first", "the first"))
        alone.promote(one.universe, version, promoted_at=NOW)
    kept = one.champion()
    assert one.follow()[0].startswith("1 models of this workspace were copied to MLflow")
    assert one.champion() == kept
    with pytest.raises(InputError, match="has models that MLflow does not know") as refused:
        other.follow()
    assert refused.value.exit_code == 2
    third.follow()
    assert third.champion() == kept
    assert third.lists() == one.lists()
    assert (third.home / "evaluations" / one.universe / kept / "scores.csv").read_text() == "a\n"


def test_versions_of_somebody_else_are_left_alone(machines: Callable[[str], Machine], mlflow: Any) -> None:
    one, other = machines("one"), machines("other")
    version = one.train("a")
    one.promote(version)
    name = f"nextday-{one.universe}"
    (run,) = {each.run_id for each in one.registry.versions(one.universe)}
    for tags in ({}, {"model_version": "../../elsewhere", "trained_through": "2018-12-31"}):
        mlflow.create_model_version(name, f"runs:/{run}/model", run, tags=tags)
    other.follow()
    assert [each.model_version for each in other.registry.versions(one.universe)] == [version]


@pytest.mark.parametrize("fault", ["500", "cut"])
def test_a_server_that_is_away_changes_nothing_and_is_named_without_its_password(
    machines: Callable[[str], Machine], server: SharedMlflow, fault: str
) -> None:
    one = machines("one")
    one.promote(one.train("a"))
    before = one.lists()
    with server.failing(fault), pytest.raises(TrackingUnreachableError) as away:
        one.follow()
    assert away.value.exit_code == 2
    assert server.url in str(away.value)
    assert PASSWORD not in str(away.value)
    assert one.lists() == before


def test_wrong_credentials_are_told_from_an_outage(
    machines: Callable[[str], Machine], server: SharedMlflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = machines("one")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong")
    with pytest.raises(TrackingUnreachableError, match="refuses access") as refused:
        one.follow()
    assert "MLFLOW_TRACKING_PASSWORD" in str(refused.value)
    assert PASSWORD not in str(refused.value)

    # The whole address may be in a variable, with the password: it is not in what is shown.
    monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD")
    monkeypatch.setenv("DESK", server.url.replace("//", f"//desk:{PASSWORD}@"))
    place = locate_server("env:DESK")
    assert place is not None
    assert str(place) == server.url
    assert PASSWORD not in repr(place)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "")  # restored after the test, whatever the client sets
    assert Tracking(one.home, digest, place).shared.champion(one.universe) == ""  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "address", ["ftp://host", "https://", "https://host:99999", "env:NOT_SET", "https://h?a=b"]
)
def test_an_address_that_cannot_be_used_is_named(address: str) -> None:
    with pytest.raises(InputError, match="no address of an MLflow server"):
        locate_server(address)
