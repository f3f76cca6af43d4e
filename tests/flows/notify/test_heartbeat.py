"""The heartbeat: the convention of healthchecks.io, watched by a real server."""

import pytest

from flows.notify.heartbeat import ping
from flows.notify.watch import watched
from pipeline.errors import SourceError
from tests.flows.notify.conftest import SECRET
from tests.support.receivers import Receiver


def test_a_start_and_a_failure_have_their_own_paths_and_a_query_stays(
    web: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [ping("env:BEAT", signal) for signal in ("start", "success", "fail")] == ["", "", ""]
    monkeypatch.setenv("BEAT", f"http://{web.host}/push/?key=1")
    assert ping("env:BEAT", "fail", "exit code 2") == ""
    assert web.paths == [f"/{SECRET}/start", f"/{SECRET}", f"/{SECRET}/fail", "/push/fail?key=1"]
    assert web.requests[-1].body == b"exit code 2"


def test_a_ping_that_fails_is_told_without_the_url(web: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    web.answer = 404
    assert ping("env:BEAT", "start") == "the monitor answered 404"
    for url in (f"http://127.0.0.1:9/{SECRET}", f"ftp://{SECRET}", f"http://[{SECRET}"):
        monkeypatch.setenv("BEAT", url)
        problem = ping("env:BEAT", "start")
        assert problem.startswith("the monitor could not be reached: ")
        assert SECRET not in problem
    assert ping("env:NOT_SET", "start") == "the environment variable NOT_SET is not set"


@pytest.fixture
def settings(tmp_path, monkeypatch):  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "nextday.toml"
    config.write_text('[notify]\nheartbeat = "env:BEAT"\nto = ["env:HOOK"]\n')
    return {"config": config, "home": tmp_path / "w"}


def test_a_run_pings_at_its_start_and_its_success(web: Receiver, settings) -> None:  # type: ignore[no-untyped-def]
    with watched("nightly", **settings, now=None):
        assert web.paths == [f"/{SECRET}/start"]
    assert web.paths == [f"/{SECRET}/start", f"/{SECRET}"]


def test_a_failed_run_pings_with_its_exit_code_and_tells_of_it_once(web: Receiver, settings) -> None:  # type: ignore[no-untyped-def]
    def fail() -> None:
        with watched("nightly", **settings, now=None):
            raise SourceError("No symbol was delivered", where="yahoo", fix="wait")

    for _ in range(2):
        with pytest.raises(SourceError):
            fail()
    hooks = [each for each in web.requests if "title" in each.body.decode()]
    (told,) = hooks
    assert told.json["title"] == "nextday sample: the nightly run failed"
    assert told.json["message"] == "No symbol was delivered\n  where: yahoo\n  fix:   wait"
    failed = [each for each in web.requests if each.path.endswith("/fail")]
    assert len(failed) == 2
    assert failed[0].body.decode().startswith("exit code 1\nNo symbol was delivered")


def test_a_run_that_is_interrupted_or_killed_says_nothing_so_that_its_silence_is_noticed(
    web: Receiver,
    settings,  # type: ignore[no-untyped-def]
) -> None:
    with pytest.raises(KeyboardInterrupt), watched("nightly", **settings, now=None):
        raise KeyboardInterrupt
    assert web.paths == [f"/{SECRET}/start"]


def test_no_failure_of_the_heartbeat_hurts_the_run(settings, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("BEAT", "http://127.0.0.1:9/x")
    ran = []
    with watched("nightly", **settings, now=None):
        ran.append(1)
    settings["config"].write_text("[notify")  # the flow itself says what is wrong with it
    with watched("nightly", **settings, now=None):
        ran.append(2)
    assert ran == [1, 2]


def test_a_training_tells_of_its_failure_and_pings_nobody(web: Receiver, settings) -> None:  # type: ignore[no-untyped-def]
    """Its success must not hide from a monitor that the evening's run never began."""
    with watched("retrain", **settings, now=None):
        pass
    assert web.paths == []
    with pytest.raises(SourceError), watched("retrain", **settings, now=None):
        raise SourceError("No symbol was delivered", where="yahoo", fix="wait")
    (told,) = web.requests
    assert told.json["title"] == "nextday sample: the retrain run failed"
