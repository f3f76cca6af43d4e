"""`nextday audit` on real fits: shipped models pass, leaks fail, and custom code may run live only after it."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from flows.evening import forecasting
from flows.operations import audit as auditing
from flows.operations.audit import gather
from flows.operations.doctor import examine
from flows.runtime.context import Run, open_run
from flows.runtime.custom_code import (
    digest_code_of,
    find_changed,
    list_code,
    require_audit,
    require_same_code,
)
from models.scaling import Scaling, fit_scaling
from pipeline.audit.leakage_check import Check
from pipeline.audit.record import Audit, load_audit
from pipeline.errors import InputError, NextdayError
from tests.conftest import network_settings
from tests.pipeline.features.test_custom_features import block
from tests.support.command_line import HERE, CommandLine, told

pytestmark = pytest.mark.own_process

CONFIG, HOME = Path("nextday.toml"), Path("w")
LIVE = ("--config", "nextday.toml", "--home", "w")
OWN = block("nextday.toml")
SOURCE = """
import numpy as np
import pandas as pd

class Mine:
    def symbols(self): return ["A", "B", "C"]
    def fetch(self, symbol, start, end, now):
        if symbol not in self.symbols():
            return None
        days = pd.bdate_range("2023-01-02", end)
        close = 100 * np.exp(np.random.default_rng(ord(symbol)).normal(0, 0.01, len(days)).cumsum())
        return pd.DataFrame({"date": days, "open": close, "high": close * 1.01, "low": close * 0.99,
                             "close": close, "volume": 1e6})
"""
LEAK = """
import numpy as np
import pandas as pd
from types import SimpleNamespace

def compute(panel, belongs):
    step = pd.DataFrame(np.log(panel.adj_close)).diff()
    return {"step": step, "tomorrow": step.shift(-1).fillna(0.0)}

LEAK = SimpleNamespace(columns=("step", "tomorrow"), last_return="step", reach=1, compute=compute)
"""


@pytest.fixture
def nextday(
    own_modules: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    return CommandLine(own_modules, monkeypatch, capsys)


def kept(universe: str = "sample") -> Audit:
    audit = load_audit(HOME / "audits" / f"{universe}.json")
    assert audit is not None
    return audit


def statuses(audit: Audit) -> dict[str, str]:
    return {check.name: check.status for check in audit.checks}


def configure(sections: str = "", **model: object) -> None:
    CONFIG.write_text(network_settings(**model) + sections)  # type: ignore[arg-type]


def forget(module: str, code: str) -> None:
    """Write a module again: a command that starts later imports it again."""
    Path(f"{module}.py").write_text(code)
    sys.modules.pop(module, None)


def test_without_prices_there_is_nothing_to_audit(nextday: CommandLine) -> None:
    said = nextday(*HERE, "audit")
    assert said.code == 2
    assert "`nextday update` fetches them" in "\n".join(told(said))


SEQUENCE = """[labels]
horizons = [1, 5]
[calibration]
method = "isotonic"
[training]
mode = "sequence"
chunk = 60
"""
SYMBOL = '[labels]\nhorizons = [1]\n[model]\nscope = "symbol"\n'


@pytest.mark.slow
@pytest.mark.parametrize("sections", [SEQUENCE, SYMBOL], ids=["sequence", "symbol"])
def test_what_ships_passes(nextday: CommandLine, sections: str) -> None:
    own = sections.splitlines()
    split = next(n for n, line in enumerate(own) if line in ("[training]", "[model]"))
    further, inside = "\n".join(own[:split]), "\n".join(own[split:])
    CONFIG.write_text(network_settings().replace(own[split], inside) + further)
    assert nextday(*HERE, "update").code == 0
    said = nextday(*HERE, "audit")
    assert said.code == 0, said.out
    found = statuses(kept())
    assert {name for name, status in found.items() if status == "not applicable"} <= {
        "own source: keeps its rules",
        "replay: the ledger's newest session",
        "fit: the scale is train's",
    }
    assert "the audit passed" in said.out
    assert "1 of 1 members" in said.out


def only(monkeypatch: pytest.MonkeyPatch, *places: int) -> None:
    """Run only some of the leakage checks: each fit takes a second or two."""
    every = auditing._list_checks
    monkeypatch.setattr(auditing, "_list_checks", lambda *subject: [every(*subject)[n] for n in places])


@pytest.mark.slow
def test_a_leak_fails_with_code_1_and_is_kept(nextday: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, *range(6))
    forget("my_leak", LEAK)
    configure('[features]\nset = "my_leak:LEAK"\n')
    assert nextday(*HERE, "update").code == 0
    said = nextday(*HERE, "audit")
    assert said.code == 1
    audit = kept()
    failed = [check for check in audit.checks if check.status == "failed"]
    assert [check.name for check in failed] == [
        "features: future cut off",
        "features: future changed",
        "features: reach",
        "features: none knows the label",
    ]
    assert "tomorrow" in failed[0].evidence
    assert f"{len(failed)} checks failed" in said.out
    facts = json.loads((HOME / "audits" / "sample.json").read_text())
    assert (facts["passed"], facts["code"].keys()) == (False, {"my_leak:LEAK"})


def with_scaling(ranges: Callable[[range, range], range], monkeypatch: pytest.MonkeyPatch) -> None:
    def scale(x: np.ndarray, mask: np.ndarray, train: range) -> Scaling:
        return fit_scaling(x, mask, ranges(train, range(mask.shape[1])))

    make = auditing.make_recipe
    monkeypatch.setattr(auditing, "make_recipe", lambda *given: replace(make(*given), scale=scale))


@pytest.mark.slow
def test_a_network_whose_scale_knows_too_much_is_caught(
    nextday: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure()
    assert nextday(*HERE, "update").code == 0
    subject = gather(open_run(CONFIG, HOME), full=False)
    only(monkeypatch, 6, 7, 12)
    with_scaling(lambda train, whole: whole, monkeypatch)
    found = {check.name: check.status for check in auditing.run_checks(subject)}
    assert found["fit: the rest changed"] == "failed"
    assert found["fit: the scale is train's"] == "failed"
    assert found["fit: equal seeds"] == "passed"


def live_run() -> Run:
    return open_run(CONFIG, HOME)


@pytest.mark.slow
def test_custom_code_runs_live_only_as_it_was_audited(nextday: CommandLine) -> None:
    forget("my_prices", SOURCE)
    forget("my_features", block("my_features.py"))
    sections = f'{OWN}[universe]\nname = "mine"\nsource = "my_prices:Mine"\n'
    configure(sections, start="2023-01-02")
    said = nextday(*LIVE, "forecast")
    assert said.code == 2
    assert "my_prices:Mine and my_features:MINE: custom code that was never audited" in told(said)[0]
    assert "`nextday audit`" in said.err
    assert "was never audited" in _failed_checks()
    assert live_run().store.seq() == 1
    assert not (HOME / "ledger.sqlite").exists()
    said = nextday(*LIVE, "audit")
    assert said.code == 0, said.out
    assert statuses(kept("mine"))["own source: keeps its rules"] == "passed"
    require_audit(live_run())
    assert "custom code" not in _failed_checks()
    _refused_after_a_change(nextday, sections)


def _refused_after_a_change(nextday: CommandLine, sections: str) -> None:
    configure(sections + '[schedule]\nnightly = "0 19 * * *"\n', start="2023-01-02")
    require_audit(live_run())
    configure(sections, start="2023-01-02", epochs=2)
    with pytest.raises(InputError, match="the settings have changed since the audit"):
        require_audit(live_run())
    configure(sections, start="2023-01-02")
    forget("my_features", block("my_features.py") + "# a word\n")
    said = nextday(*LIVE, "forecast")
    assert (said.code, "has changed since the audit" in said.err) == (2, True)
    require_audit(replace(live_run(), is_simulated=True))


def _failed_checks() -> str:
    failed = [check for check in examine(CONFIG, HOME, None) if not check.is_passed]
    return "\n".join(check.what for check in failed if "custom code" in check.what)


@pytest.mark.slow
def test_an_audit_that_failed_is_no_pass(nextday: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    forget("my_prices", SOURCE)
    configure('[universe]\nname = "mine"\nsource = "my_prices:Mine"\n')
    run = live_run()
    leak = Check("a check", "It was run.", "failed", "A on Monday")
    monkeypatch.setattr(auditing, "run_checks", lambda subject: [leak])
    monkeypatch.setattr(auditing, "check_custom_source", lambda run, block: replace(leak, status="passed"))
    assert nextday(*LIVE, "update").code == 0
    assert nextday(*LIVE, "audit").code == 1
    with pytest.raises(InputError, match=r"failed the audit of .*: a check: A on Monday"):
        require_audit(run)


@pytest.mark.slow
def test_a_source_that_changes_its_answers_fails(nextday: CommandLine) -> None:
    forget("my_prices", SOURCE.replace("ord(symbol)", ""))
    configure('[universe]\nname = "mine"\nsource = "my_prices:Mine"\n')
    assert nextday(*LIVE, "update").code == 0
    run = live_run()
    found = auditing.check_custom_source(run, gather(run, full=False).features.block)
    assert found.status == "failed"
    assert "asked twice, it returns other values" in found.evidence


def test_built_in_code_needs_no_audit(nextday: CommandLine) -> None:
    configure()
    run = live_run()
    assert list_code(run) == {}
    require_audit(run)


def test_a_model_refuses_features_of_other_code(
    nextday: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget("my_features", block("my_features.py"))
    configure(OWN)
    learned = {"features": "my_features:MINE", **digest_code_of(live_run())}
    run = live_run()
    require_same_code(run, learned, HOME)
    forget("my_features", block("my_features.py") + "# a word\n")
    with pytest.raises(NextdayError, match="has changed since"):
        require_same_code(live_run(), learned, HOME)
    require_same_code(live_run(), {"features": "default"}, HOME)
    session = pd.Timestamp("2018-12-10")
    champions = SimpleNamespace(known_at=lambda session: SimpleNamespace(code=learned))
    # A missed session is given up, or no training could ever follow a change of the code.
    remark = forecasting._catch_up_session(live_run(), session, None, None, champions)  # type: ignore[arg-type]
    assert remark is not None
    assert "2018-12-10 was missed and cannot be caught up: the model known by then was trained with" in remark
    Path("my_features.py").unlink()
    sys.modules.pop("my_features", None)
    assert find_changed(run, learned)
