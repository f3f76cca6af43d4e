"""Every check of folds and fits fails for the leak that it is meant to find, and for nothing that nextday ships."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from models.baselines import BASELINES, baselines
from pipeline.audit.leakage_check import Check, CheckResult, leakage_check
from pipeline.audit.procedure_checks import (
    Procedure,
    check_changed_rest,
    check_fewer_sessions,
    check_folds,
    check_later_sessions,
    check_scale,
    check_seed,
    check_shuffled_labels,
    check_symbol_order,
)
from pipeline.audit.record import Audit, load_audit, save_audit
from pipeline.config import EvaluationConfig, TrainingConfig
from pipeline.errors import InputError, StoreError
from pipeline.features.feature_sets import FEATURE_SETS
from pipeline.forecasting.folds import Fold, final_fold, scoring_fold
from pipeline.market.calendar import Calendar
from pipeline.prices.bar_block import Block
from tests.models.test_baselines import whole
from tests.pipeline.audit.conftest import audit_of

TRAINING = TrainingConfig(stop_sessions=40, calibrate_sessions=40)
EVALUATION = EvaluationConfig(test_sessions=60)


# Folds.


@pytest.mark.parametrize("horizons", [(1,), (1, 5, 20)])
def test_the_shipped_folds_leave_gaps(block: Block, horizons: tuple[int, ...]) -> None:
    known = audit_of(block, FEATURE_SETS["alstm11"], horizons).make()
    ends = [block.sessions[n].date() for n in (240, 330, 400)]
    dated = EvaluationConfig(train_end=ends[0], validation_end=ends[1], test_end=ends[2])
    folds = {
        "score": scoring_fold(known, EVALUATION, TRAINING),
        "dated": scoring_fold(known, dated, TRAINING),
        "champion": final_fold(known, TRAINING),
    }
    found = check_folds(folds, known)
    assert found.status == "passed"
    assert found.evidence.startswith(f"{8 * len(horizons)} borders")


@pytest.mark.parametrize(("gap", "horizons"), [(0, (1,)), (1, (1, 2)), (4, (1, 5))])
def test_a_gap_shorter_than_the_horizon_is_caught(block: Block, gap: int, horizons: tuple[int, ...]) -> None:
    known = audit_of(block, FEATURE_SETS["alstm11"], horizons).make()
    fold = Fold(range(30, 250 - gap), range(250, 290), range(310, 350), range(370, 400))
    found = check_folds({"score": fold}, known)
    assert found.status == "failed"
    assert f"the last label of train, {horizons[-1]} ahead" in found.evidence
    assert f"{block.sessions[250]:%Y-%m-%d}" in found.evidence
    wide = replace(fold, train=range(30, 250 - horizons[-1]))
    assert check_folds({"score": wide}, known).status == "passed"


# Fits and forecasts.


@dataclass
class Simple:
    """A model of a few lines: a wave of the last return on its scale, around the share of ups.

    Each field is one way to get it wrong.
    """

    scale_of_everything: bool = False
    scale_until_the_test: bool = False
    labels_of_everything: bool = False
    has_no_seed: bool = False
    scales_what_it_is_asked: bool = False
    looks_at_neighbours: bool = False
    remembers: bool = False
    knows_by_heart: bool = False
    start: int = field(default=0, init=False)

    def fit(
        self,
        x: np.ndarray,
        mask: np.ndarray,
        y: np.ndarray,
        *,
        train: range,
        stop: range,
        calibrate: range,
        seed: int,
        refit: np.ndarray | None = None,
    ) -> "SimpleFit":
        first = (
            None
            if refit is None
            else self.fit(x, mask, y, train=train, stop=stop, calibrate=calibrate, seed=seed)
        )
        if refit is not None:
            y, train = refit, range(train.start, calibrate.stop)
        part = slice(None) if self.scale_of_everything else slice(train.start, train.stop)
        if self.scale_until_the_test:
            part = slice(train.start, calibrate.stop)
        scale = float(x[:, part, 0][mask[:, part]].std())
        learned = slice(None) if self.labels_of_everything else slice(train.start, train.stop)
        base = np.nanmean(y[:, learned], axis=(0, 1))
        rng = np.random.default_rng() if self.has_no_seed else np.random.default_rng(seed)
        memory = {}
        if self.knows_by_heart:
            rows = np.argwhere(mask & np.isfinite(y).all(axis=2))
            memory = {x[a, b].tobytes(): y[a, b] for a, b in rows if b in train}
        scale = scale if first is None else first.scale
        return SimpleFit(self, scale, base, float(rng.normal()), memory, first)


@dataclass
class SimpleFit:
    model: Simple
    scale: float
    base_rate: np.ndarray
    noise: float
    memory: Mapping[bytes, np.ndarray]
    first: "SimpleFit | None" = None

    @property
    def held_out(self) -> "SimpleFit":
        return self.first or self

    @property
    def threshold(self) -> np.ndarray:
        return np.zeros(len(self.base_rate))

    def first_session(self, row: int) -> int:
        return row

    def predict(self, x: np.ndarray, mask: np.ndarray) -> SimpleNamespace:
        z = x[:, :, 0] / (x[:, :, 0].std() if self.model.scales_what_it_is_asked else self.scale)
        if self.model.remembers:
            z = z.cumsum(axis=1)
        if self.model.looks_at_neighbours:
            z = z.cumsum(axis=0)
        p = self.base_rate + 0.1 * np.sin(z + self.noise)[:, :, None]
        for symbol, session in np.argwhere(mask):
            known = self.memory.get(x[symbol, session].tobytes())
            if known is not None:
                p[symbol, session] = 0.1 + 0.8 * known
        p = np.where(mask[:, :, None], p, np.nan)
        return SimpleNamespace(p_up=p, low=p, high=p)


@pytest.fixture(scope="module")
def honest(block: Block, xnys: Calendar) -> Procedure:
    features = FEATURE_SETS["default16"]
    audit = audit_of(block, features)
    known = audit.make()
    return Procedure(
        name="simple",
        model=Simple(),
        base_rate=baselines(0, 1)["base_rate"],
        sequences=known,
        fold=scoring_fold(known, EVALUATION, TRAINING),
        calendar=xnys,
        dead_zone=(0.0, 0.0),
        refit=False,
        seed=3,
        last_return=0,
    ).with_known_labels()


def looks(procedure: Procedure) -> dict[str, Check]:
    fitted = procedure.fitted()
    return {
        "rest": check_changed_rest(procedure, fitted),
        "scale": check_scale(procedure),
        "seed": check_seed(procedure, fitted),
        "later": check_later_sessions(procedure, fitted, 3),
        "reach": check_fewer_sessions(procedure, fitted, 3),
        "order": check_symbol_order(procedure, fitted, lambda rows: fitted),
    }


def failed(procedure: Procedure) -> list[str]:
    return [name for name, found in looks(procedure).items() if found.status == "failed"]


@pytest.mark.parametrize("refit", [False, True], ids=["one fit", "two fits"])
def test_an_honest_model_passes_every_check(honest: Procedure, refit: bool) -> None:
    assert {found.status for found in looks(replace(honest, refit=refit)).values()} == {"passed"}


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (Simple(scale_of_everything=True), ["rest", "scale"]),
        (Simple(scale_until_the_test=True), ["scale"]),
        (Simple(labels_of_everything=True), ["rest"]),
        (Simple(has_no_seed=True), ["rest", "scale", "seed"]),
        (Simple(scales_what_it_is_asked=True), ["later", "reach"]),
        (Simple(remembers=True), ["reach"]),
        (Simple(looks_at_neighbours=True), ["order"]),
    ],
)
def test_a_model_that_knows_too_much_fails_the_checks_of_it(
    honest: Procedure, model: Simple, expected: list[str]
) -> None:
    assert failed(replace(honest, model=model)) == expected


def test_a_second_fit_that_knows_the_test_is_caught(honest: Procedure) -> None:
    assert failed(replace(honest, model=Simple(labels_of_everything=True), refit=True)) == ["rest"]


SLOW = {"gradient_boosting": pytest.mark.slow}


@pytest.mark.parametrize("name", [pytest.param(name, marks=SLOW.get(name, ())) for name in BASELINES])
def test_the_shipped_baselines_pass_every_check(
    honest: Procedure, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One penalty: among several the stop range would choose, as it should.
    monkeypatch.setattr("models.learners.STRENGTHS", (1e-2,))
    procedure = replace(honest, model=whole(5)[name], name=name, refit=True)
    assert failed(procedure) == []


def test_a_fit_with_equal_forecasts_but_other_weights_is_caught(honest: Procedure) -> None:
    digests = iter("ab")
    found = check_seed(replace(honest, digest=lambda fitted: next(digests)), honest.fitted())
    assert found.status == "failed"
    assert "the weights, the scale or the calibration differ" in found.evidence


def test_a_check_on_equal_forecasts_is_not_applicable(honest: Procedure) -> None:
    found = check_seed(
        replace(honest, model=honest.base_rate), replace(honest, model=honest.base_rate).fitted()
    )
    assert found.status == "not applicable"


def with_real_labels(honest: Procedure) -> Procedure:
    y = np.where(honest.sequences.returns > 0, 1.0, 0.0)
    y = np.where(np.isnan(honest.sequences.returns) | (honest.sequences.returns == 0), np.nan, y).astype(
        np.float32
    )
    return replace(honest, sequences=replace(honest.sequences, y=y))


def test_an_honest_procedure_finds_nothing_in_shuffled_labels(honest: Procedure) -> None:
    found = check_shuffled_labels(with_real_labels(honest))
    assert found.status == "passed"
    assert "n = 356" in found.evidence


def test_a_procedure_that_trains_on_its_test_beats_even_shuffled_labels(honest: Procedure) -> None:
    fold = Fold(range(80, 380), range(380, 390), range(390, 410), range(330, 380))
    procedure = replace(with_real_labels(honest), model=Simple(knows_by_heart=True), fold=fold)
    found = check_shuffled_labels(procedure)
    assert found.status == "failed"
    assert "above chance, in two shuffles" in found.evidence
    assert check_folds({"score": fold}, honest.sequences).status == "failed"


def test_a_test_too_short_for_an_interval_is_no_proof(honest: Procedure) -> None:
    fold = replace(honest.fold, test=range(honest.fold.test.stop - 5, honest.fold.test.stop))
    assert check_shuffled_labels(replace(honest, fold=fold)).status == "not applicable"


# The record.


def test_an_error_with_a_fix_fails_the_check_with_its_message() -> None:
    @leakage_check("a name", "What was done.")
    def look() -> CheckResult:
        raise InputError("no such thing", where="here")

    assert look() == Check("a name", "What was done.", "failed", "no such thing where: here")


def test_an_audit_is_read_as_it_was_saved(tmp_path: Path) -> None:
    checks = (Check("a", "b", "passed", "c"), Check("d", "e", "not applicable", "f"))
    audit = Audit(
        "u", datetime(2019, 1, 4, tzinfo=UTC), "2019-01-03", 3, "0" * 16, "1" * 16, {"m:N": "2"}, "all", checks
    )  # fmt: skip
    save_audit(tmp_path / "audits" / "u.json", audit)
    assert load_audit(tmp_path / "audits" / "u.json") == audit
    assert audit.is_passed
    assert not replace(audit, checks=(Check("a", "b", "failed", "c"),)).is_passed
    assert load_audit(tmp_path / "none.json") is None
    (tmp_path / "audits" / "u.json").write_text("{}")
    with pytest.raises(StoreError, match="cannot be read"):
        load_audit(tmp_path / "audits" / "u.json")
