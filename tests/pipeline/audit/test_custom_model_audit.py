"""The audit of a model of one's own: cheats are caught, and the page's example lives a whole life."""

import re
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from flows.runtime.context import open_run
from flows.runtime.custom_code import describe_missing_audit, find_changed, require_audit, require_named_code
from flows.runtime.tracking import tracking
from models.baselines import baselines
from models.ensembles.custom_ensemble import CustomModel
from models.ensembles.model_files import read_metadata
from pipeline.audit.procedure_checks import (
    Procedure,
    check_changed_rest,
    check_fewer_sessions,
    check_later_sessions,
    check_seed,
    check_symbol_order,
)
from pipeline.config import Config
from pipeline.errors import ConfigError, InputError
from pipeline.features.feature_sets import FEATURE_SETS
from pipeline.forecasting.custom_model import find_model
from pipeline.forecasting.folds import scoring_fold
from pipeline.market.calendar import Calendar
from tests.conftest import network_settings
from tests.flows.operations.test_audit_command import CONFIG, HOME, LIVE, SOURCE, forget, kept, statuses
from tests.pipeline.audit.conftest import audit_of, market
from tests.pipeline.audit.test_procedure_checks import EVALUATION, TRAINING
from tests.pipeline.forecasting.test_custom_model import LOOKBACK, adopted, block
from tests.support.command_line import CommandLine, told

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def honest(xnys: Calendar) -> Procedure:
    bars = market(xnys)
    known = audit_of(bars, FEATURE_SETS["default16"]).make()
    return Procedure(
        name="Written",
        model=CustomModel(adopted(), LOOKBACK),
        base_rate=baselines(0, LOOKBACK)["base_rate"],
        sequences=known,
        fold=scoring_fold(known, EVALUATION, TRAINING),
        calendar=xnys,
        dead_zone=(0.0, 0.0),
        refit=False,
        seed=3,
        last_return=0,
    ).with_known_labels()


@pytest.mark.parametrize(
    ("wrong", "caught"),
    [
        ("", []),
        ("peeks", ["forecasts: future cut off, and changed", "forecasts: reach"]),
        ("remembers", ["forecasts: reach"]),
        ("order", ["forecasts: order of symbols"]),
        ("chance", ["fit: the rest changed", "fit: equal seeds"]),
    ],
)
def test_the_audit_catches_what_no_honest_model_does(
    honest: Procedure, wrong: str, caught: list[str]
) -> None:
    procedure = replace(honest, model=CustomModel(adopted(wrong), LOOKBACK, calibration=None))
    one = procedure.fitted()
    checks = [
        check_changed_rest(procedure, one),
        check_seed(procedure, one),
        check_later_sessions(procedure, one, 4),
        check_fewer_sessions(procedure, one, 4),
        check_symbol_order(procedure, one, lambda rows: one),
    ]
    assert [check.name for check in checks if check.status == "failed"] == caught
    assert "not applicable" not in {check.status for check in checks}


@pytest.fixture
def nextday(
    own_modules: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    return CommandLine(own_modules, monkeypatch, capsys)


def configure() -> None:
    own = re.sub(r"members.*\n|lookback.*\n", "", block("nextday.toml"))
    settings = network_settings(start="2023-01-02").replace("[model]\n", own)
    CONFIG.write_text(
        f'{settings}[universe]\nname = "mine"\nsource = "my_prices:Mine"\n'
        "[backtest]\ntrain_sessions = 500\nrefit_sessions = 500\n"
    )


def test_the_pages_model_lives_a_whole_life(nextday: CommandLine) -> None:
    forget("my_prices", SOURCE)
    forget("my_model", block("my_model.py"))
    configure()
    said = nextday(*LIVE, "forecast")
    assert said.code == 2
    assert describe_missing_audit(open_run(CONFIG, HOME)).startswith(
        "Not audited, so these figures may use future information: my_"
    )
    assert "my_prices:Mine and my_model:Logistic: custom code that was never audited" in told(said)[0]
    assert nextday(*LIVE, "audit").code == 0
    assert {statuses(kept("mine"))[name] for name in ("fit: equal seeds", "forecasts: reach")} == {"passed"}
    said = nextday(*LIVE, "forecast")
    assert said.code == 0, said.err
    run = open_run(CONFIG, HOME)
    assert describe_missing_audit(run) == ""
    rows = run.ledger.forecasts("mine")
    is_early = rows["issued_at"].iloc[0] < run.calendar.opens[rows["target_session"].iloc[0]]
    assert set(rows["kind"]) == {
        "live" if is_early else "late"
    }  # the exchange may be open while this test runs
    assert sorted(rows["symbol"]) == ["A", "B", "C"]
    as_of = f"{rows['as_of'].iloc[0]:%Y-%m-%d}"
    assert "3 forecasts recomputed: the same" in nextday(*LIVE, "replay", as_of).out
    _stands_beside_the_baselines(nextday)
    _is_refused_where_the_settings_name_it_no_more()
    _is_refused_after_a_change(nextday, as_of)


def _stands_beside_the_baselines(nextday: CommandLine) -> None:
    page = next(HOME.glob("reports/mine/*/report.html")).read_text()
    assert "my_model:Logistic with sessions = 5, code " in page
    assert "or it is a custom model" in page
    assert nextday(*LIVE, "backtest").code == 0
    for scores in (next(HOME.glob("reports/mine/2*/scores.csv")), HOME / "reports/mine/backtest/scores.csv"):
        assert {"Logistic", "base_rate", "gradient_boosting"} <= set(pd.read_csv(scores)["model"])
    said = nextday(*LIVE, "search")
    assert (said.code, "A search tries settings of nextday's networks" in told(said)[0]) == (2, True)


def _is_refused_where_the_settings_name_it_no_more() -> None:
    run = open_run(CONFIG, HOME)
    champion = tracking(run).champion("mine")
    assert champion is not None
    facts = read_metadata(champion.directory)["extra"]
    require_named_code(run, facts, champion.directory)
    other = replace(run, config=run.config.model_copy(update={"model": Config().model}))
    with pytest.raises(InputError, match="made with my_model:Logistic, which the settings no longer name"):
        require_named_code(other, facts, champion.directory)
    options = run.config.model.model_copy(update={"options": {"sessions": 4}})
    other = replace(run, config=run.config.model_copy(update={"model": options}))
    with pytest.raises(InputError, match="under other settings than the audited ones"):
        require_named_code(other, facts, champion.directory)


def _is_refused_after_a_change(nextday: CommandLine, as_of: str) -> None:
    forget("my_model", block("my_model.py") + "# a word\n")
    with pytest.raises(InputError, match="my_model:Logistic: custom code that has changed since"):
        require_audit(open_run(CONFIG, HOME))
    said = nextday(*LIVE, "replay", as_of)
    assert said.code == 1
    assert "The model was made with my_model:Logistic (code " in told(said)[0]
    forget("my_model", block("my_model.py"))
    assert nextday(*LIVE, "replay", as_of).code == 0


def test_a_model_whose_code_is_gone_is_refused(own_modules: Path) -> None:
    (own_modules / "my_model.py").write_text(block("my_model.py"))
    model = find_model("my_model:Logistic", {}, own_modules)
    run: Any = SimpleNamespace(base=own_modules)
    assert (model.custom.__name__, find_changed(run, {"model": "gru"})) == ("Logistic", "")
    (own_modules / "my_model.py").unlink()
    sys.modules.pop("my_model")
    with pytest.raises(ConfigError):
        find_model("my_model:Logistic", {}, own_modules)
    assert (
        find_changed(run, {"model": "my_model:Logistic", "model_code": "1"}) == "my_model:Logistic (code 1)"
    )
