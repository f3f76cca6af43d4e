"""`nextday audit --leaks`: every leak beside the clean procedure, and nothing of it is saved."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flows.operations.leaks import scale_on_all
from models.ensembles.pooled import RecurrentModel
from models.networks.network import Network
from models.training.trainer import Training
from pipeline.audit.apparent_skill import ApparentSkill, Market, show_skills
from pipeline.audit.planted_leaks import CannotPlantError
from pipeline.audit.procedure_checks import Procedure
from pipeline.config import TradingConfig
from pipeline.forecasting.folds import Fold
from pipeline.market.calendar import Calendar
from pipeline.trading.fills import Fills
from tests.conftest import network_settings
from tests.models.test_baselines import whole
from tests.support.command_line import HERE, CommandLine, contents
from tests.support.made_sequences import sequences_of

pytestmark = [pytest.mark.slow, pytest.mark.own_process]


@pytest.fixture
def nextday(
    own_modules: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    return CommandLine(own_modules, monkeypatch, capsys)


LEAKS = (
    "none",
    "scale of all history",
    "centred window",
    "fill at the same day's open",
    "no gap",
    "survivors",
)


def test_the_command_prints_every_leak_and_saves_nothing(nextday: CommandLine) -> None:
    sections = "[labels]\nhorizons = [1, 5]\n"
    Path("nextday.toml").write_text(network_settings() + sections)
    assert nextday(*HERE, "update").code == 0
    before = contents(Path("w"))
    said = nextday(*HERE, "audit", "--leaks")
    assert said.code == 0, said.out + said.err
    lines = [line.strip() for line in said.out.splitlines()]
    tables = [place for place, line in enumerate(lines) if line.startswith("leak: what is planted")]
    assert len(tables) == 2
    for first, stop in zip(tables, [tables[1], len(lines)], strict=True):
        named = [leak for line in lines[first:stop] for leak in LEAKS if line.startswith(leak)]
        assert named == [*LEAKS]
    assert "neither a score nor a pass of the audit" in said.out
    assert "the audit passed" not in said.out
    assert contents(Path("w")) == before


def crowded(days: Calendar) -> Procedure:
    """Return a procedure that has to tell moves of 30 from moves of 60, where those it learns from are rare.

    On the scale of the training sessions both are cut off at the same limit.
    """
    rng, symbols, sessions = np.random.default_rng(1), 40, 420
    fold = Fold(range(0, 260), range(261, 300), range(301, 340), range(341, 419))
    size = np.where(rng.random((symbols, sessions)) < 0.5, 30.0, 60.0)
    is_large = rng.random((symbols, sessions)) < np.where(np.arange(sessions) < 261, 0.02, 0.5)
    x = np.where(is_large, size, rng.normal(size=(symbols, sessions))).astype(np.float32)[:, :, None]
    right = rng.random((symbols, sessions)) < 0.9
    y = np.where(is_large, (size > 45) == right, np.nan).astype(np.float32)[:, :, None]
    names = tuple(f"S{number:02d}" for number in range(symbols))
    known = sequences_of(
        x, np.ones((symbols, sessions), bool), y, names, days.sessions[:sessions], (1,), ("move",)
    )
    network = Network("gru", features=1, lookback=1, units=4)
    training = Training(epochs=30, batch_size=32, learning_rate=0.02, patience=30)
    return Procedure(
        name="gru",
        model=RecurrentModel(network, training, members=1),
        base_rate=whole(1)["base_rate"],
        sequences=known,
        fold=fold,
        calendar=days,
        dead_zone=(0.0, 0.0),
        seed=3,
        refit=False,
        last_return=0,
    )


def shown(procedure: Procedure) -> ApparentSkill:
    known = procedure.sequences
    flat = np.ones((len(known.sessions), len(known.symbols)))
    fills = Fills(known.sessions, [*known.symbols], flat, flat, flat, flat - 1)
    [skill] = show_skills(procedure, Market(fills, TradingConfig())).values()
    return skill


def test_a_scale_that_knows_the_test_tells_apart_what_training_sessions_cannot(xnys: Calendar) -> None:
    procedure = crowded(xnys)
    clean, leaking = shown(procedure), shown(scale_on_all(procedure))
    assert abs(clean.saved.value) < 0.01
    assert leaking.saved.low > 0.1
    assert leaking.more_than(clean, seed=0).low > 0.1
    assert leaking.auc_within.low > 0.8


def test_a_custom_model_has_a_scale_of_its_own(xnys: Calendar) -> None:
    custom = replace(crowded(xnys), model=whole(1)["logistic_regression"])
    with pytest.raises(CannotPlantError, match="scales its inputs itself"):
        scale_on_all(custom)
