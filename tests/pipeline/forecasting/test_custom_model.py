"""A model of one's own: what it is handed, what is made of its answers, and broken contracts told by name."""

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.training.walk_forward import BEST_BEFORE
from models.baselines import BASELINES
from models.calibration.calibrator import Calibration
from models.ensembles.custom_ensemble import CustomEnsemble, CustomModel, load
from models.ensembles.model_files import model_version, read_metadata
from models.errors import ModelError
from pipeline.config import Config
from pipeline.errors import InputError
from pipeline.forecasting.custom_model import CheckedModel, wrap_model
from pipeline.plugins import BASELINE_NAMES
from pipeline.tracking.trials import list_parameters
from tests.conftest import PROJECT
from tests.flows.operations.test_audit_command import CONFIG
from tests.support.command_line import HERE, CommandLine, told

PAGE = (PROJECT / "docs" / "custom_model.md").read_text()
SYMBOLS, SESSIONS, LOOKBACK = 4, 300, 3
RANGES = {"train": range(20, 150), "stop": range(152, 200), "calibrate": range(202, 250)}
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


def block(name: str) -> str:
    found = re.search(rf"```(?:python|toml)\n# {re.escape(name)}.*?\n(.*?)```", PAGE, re.S)
    assert found is not None
    return found.group(1)


class Odd:
    """An answer that refuses to become an array, as a tensor does that still learns."""

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise RuntimeError("call detach")


class UserModel:
    """A model of a few lines: a wave of the last return; each option is one way to get it wrong."""

    def __init__(self, wrong: str = "") -> None:
        self.wrong = wrong

    def fit(self, x: np.ndarray, mask: np.ndarray, y: np.ndarray, **given: Any) -> Any:
        if self.wrong == "fit":
            raise ValueError("no\nluck")
        if self.wrong == "writes":
            x[:] = 0
        if self.wrong == "returns":
            return {}
        rng = np.random.default_rng(None if self.wrong == "chance" else given["seed"])
        self.noise = float(rng.normal())
        self.scale = float(x[~np.isnan(y[:, :, 0])][:, 0].std())
        return self

    def predict(self, x: np.ndarray, mask: np.ndarray) -> Any:
        z = x[:, :, 0] / self.scale
        z = z + np.roll(z, 1, axis=1) * (np.arange(x.shape[1]) > 0)
        if self.wrong == "peeks":
            z = z + np.roll(z, -1, axis=1)
        if self.wrong == "remembers":
            z = z.cumsum(axis=1)
        if self.wrong == "order":
            z = z.cumsum(axis=0)
        p = 0.5 + 0.4 * np.sin(z + self.noise)
        answers = {
            "predict": lambda: 1 / 0,
            "leaves": lambda: sys.exit(0),
            "complex": lambda: p + 1j,
            "odd": lambda: Odd(),
            "text": lambda: "up",
            "flat": lambda: p[0],
            "high": lambda: p + (z > 0),
            "nan": lambda: np.where(z > 0, np.nan, p),
        }
        return answers.get(self.wrong, lambda: p)()

    def save(self, directory: Path) -> None:
        if self.wrong == "save":
            raise OSError("the disk is full")
        if self.wrong != "nothing":
            np.save(directory / "kept.npy", [self.noise, self.scale])

    @classmethod
    def load(cls, directory: Path) -> Any:
        model = cls()
        model.noise, model.scale = np.load(directory / "kept.npy").tolist()
        return model


def adopted(wrong: str = "") -> CheckedModel:
    return wrap_model(UserModel, "m:Written", {"wrong": wrong} if wrong else {})


def arrays() -> Arrays:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(SYMBOLS, SESSIONS, 2)).astype(np.float32)
    mask = np.ones((SYMBOLS, SESSIONS), dtype=bool)
    mask[1, :40] = mask[2, 100] = False
    y = (rng.random((SYMBOLS, SESSIONS, 1)) < 0.5 + 0.2 * np.tanh(x[:, :, :1])).astype(np.float32)
    return x, mask, y


def fitted(wrong: str = "", members: int = 1) -> CustomEnsemble:
    return CustomModel(adopted(wrong), LOOKBACK, members).fit(*arrays(), **RANGES, seed=5)


# What nextday makes of it.


def test_a_fit_is_handed_nothing_behind_the_stop_range_and_no_label_that_is_not_to_be_learned() -> None:
    seen: dict[str, np.ndarray] = {}

    class Seeing(UserModel):
        def fit(self, x: np.ndarray, mask: np.ndarray, y: np.ndarray, **given: Any) -> Any:
            seen.update(x=x, mask=mask, y=y)
            return super().fit(x, mask, y, **given)

    x, mask, y = arrays()
    CustomModel(wrap_model(Seeing, "m:S", {}), LOOKBACK).fit(x, mask, y, **RANGES, seed=1)
    assert {array.shape[1] for array in seen.values()} == {RANGES["stop"].stop}
    assert all(array.base.shape == array.shape for array in seen.values())  # no view of what lies behind
    known = ~np.isnan(seen["y"][:, :, 0])
    learned = np.zeros(SESSIONS, dtype=bool)
    learned[[*RANGES["train"], *RANGES["stop"]]] = True
    assert (known == (learned & _usable(mask))[:, : known.shape[1]]).all()
    assert (seen["x"][~seen["mask"]] == 0).all()


def _usable(mask: np.ndarray) -> np.ndarray:
    """Return where the last three sessions are valid."""
    back = [np.pad(mask, ((0, 0), (k, 0)))[:, : mask.shape[1]] for k in range(LOOKBACK)]
    return np.logical_and.reduce(back)


def test_members_average_logits_and_their_spread_is_the_band() -> None:
    x, mask, _ = arrays()
    ensemble = fitted(members=3)
    assert ensemble.seeds == (5, 6, 7)
    made = ensemble.predict(x, mask)
    said = np.stack([np.clip(fit.custom.predict(x, mask), 0.001, 0.999) for fit in ensemble.fits])  # type: ignore[attr-defined]
    logits = np.log(said / (1 - said))
    middle, reach = logits.mean(axis=0), 1.64 * logits.std(axis=0, ddof=1)
    usable = _usable(mask)
    for panel, z in ((made.p_up, middle), (made.low, middle - reach), (made.high, middle + reach)):
        np.testing.assert_allclose(panel[usable], ensemble.calibrator.p_up(z[usable][:, None]), rtol=1e-6)
        assert np.isnan(panel[~usable]).all()
    assert (made.low <= made.p_up)[usable].all()


def test_the_calibrator_sees_the_calibrate_range_alone() -> None:
    x, mask, y = arrays()
    spoiled = y.copy()
    spoiled[:, RANGES["calibrate"].stop :] = 1 - spoiled[:, RANGES["calibrate"].stop :]
    turned = y.copy()
    turned[:, 202:250] = 1 - turned[:, 202:250]
    recipe = CustomModel(adopted(), LOOKBACK, calibration=Calibration("platt", 0.5))
    kept_, same, other = (
        recipe.fit(x, mask, each, **RANGES, seed=5).calibrator for each in (y, spoiled, turned)
    )
    assert kept_ == same
    assert kept_ != other
    assert kept_.abstention.target == 0.5


def test_what_is_loaded_is_what_was_saved_and_equal_fits_are_one_version(tmp_path: Path) -> None:
    x, mask, _ = arrays()
    one = fitted(members=2)
    one.save(tmp_path / "a", extra={"note": 1})
    fitted(members=2).save(tmp_path / "b", extra={"note": 1})
    assert model_version(tmp_path / "a") == model_version(tmp_path / "b")
    assert set(read_metadata(tmp_path / "a")["files"]) == {"member-1/kept.npy", "member-2/kept.npy"}
    again = load(tmp_path / "a", adopted())
    np.testing.assert_array_equal(again.predict(x, mask).p_up, one.predict(x, mask).p_up)
    assert (again.extra, again.first_session(100), again.threshold) == ({"note": 1}, 98, one.threshold)
    (tmp_path / "a" / "member-2" / "kept.npy").write_bytes(b"other")
    assert model_version(tmp_path / "a") != model_version(tmp_path / "b")
    with pytest.raises(ModelError, match="has changed since it was saved"):
        load(tmp_path / "a", adopted())


def test_several_horizons_are_several_answers() -> None:
    x, mask, y = arrays()
    both = np.concatenate([y, 1 - y], axis=-1)
    with pytest.raises(InputError, match=re.escape(f"shape (4, {48 + LOOKBACK - 1}), not (4, 50, 2)")):
        CustomModel(adopted(), LOOKBACK).fit(x, mask, both, **RANGES, seed=5)

    class Both(UserModel):
        def predict(self, x: np.ndarray, mask: np.ndarray) -> Any:
            p = super().predict(x, mask)
            return np.stack([p, 1 - p], axis=-1)

    made = CustomModel(wrap_model(Both, "m:B", {}), LOOKBACK).fit(x, mask, both, **RANGES, seed=5)
    assert made.predict(x, mask).p_up.shape == (SYMBOLS, SESSIONS, 2)


# What breaks the contract.


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("fit", "m:Written: fit raised ValueError: no luck (test_custom_model.py, line"),
        ("writes", "read-only (test_custom_model.py, line"),
        ("returns", "fit returned a dict without the method 'predict'"),
        ("predict", "predict raised ZeroDivisionError: division by zero (test_custom_model.py, line"),
        ("text", "predict returned a str that is not an array of numbers"),
        ("leaves", "predict raised SystemExit: 0 (test_custom_model.py, line"),
        ("complex", "predict returned a ndarray that is not an array of numbers"),
        ("odd", "predict returned a Odd that is not an array of numbers: RuntimeError: call detach"),
        ("flat", "predict returned the shape (50,), not (4, 50, 1): [symbol, session, horizon]"),
        ("high", "where a probability between 0 and 1 is needed, in"),
        ("nan", "predict returned nan where a probability"),
    ],
)
def test_what_a_model_does_wrong_is_an_error_with_its_location(wrong: str, words: str) -> None:
    with pytest.raises(InputError, match=re.escape(words)) as caught:
        fitted(wrong)
    assert caught.value.where == "[model] kind"
    assert caught.value.fix


@pytest.mark.parametrize(
    ("wrong", "words"), [("save", "save raised OSError: the disk is full"), ("nothing", "save wrote no file")]
)
def test_a_save_that_fails_leaves_nothing(tmp_path: Path, wrong: str, words: str) -> None:
    with pytest.raises(InputError, match=re.escape(words)):
        fitted(wrong).save(tmp_path / "a", extra={})
    assert list(tmp_path.iterdir()) == []


def test_a_load_that_fails_is_an_error_with_its_location(tmp_path: Path) -> None:
    class Forgetful(UserModel):
        @classmethod
        def load(cls, directory: Path) -> Any:
            raise KeyError(directory.name)

    fitted().save(tmp_path / "a", extra={})
    with pytest.raises(InputError, match=re.escape("load raised KeyError: 'member-1' (test_custom_model.py")):
        load(tmp_path / "a", wrap_model(Forgetful, "m:F", {}))


CODE = """
class {name}:
    def __init__(self, strength=1): pass
    def fit(self, x, mask, y, *, train, stop, seed): pass
    {load}
"""
LOAD = "@classmethod\n    def load(cls, directory): pass"


@pytest.mark.parametrize(
    ("kind", "code", "words"),
    [
        ("my_gone:Mine", None, "no module 'my_gone'"),
        ("my_a:Mine", "x = 1 / 0", "my_a cannot be imported: ZeroDivisionError"),
        ("my_b:Mine", "Mina = 3", "my_b has no 'Mine' in it"),
        ("my_c:Mine", "def Mine(): pass", "my_c:Mine is not a class but a function"),
        ("my_d:Mine", "class Mine: pass", "my_d:Mine has no method 'fit'"),
        ("my_e:Mine", CODE.format(name="Mine", load=""), "my_e:Mine has no method 'load'"),
        ("my_f:Mine", CODE.format(name="Mine", load="def load(self, d): pass"), "load is an instance method"),
        (
            "my_g:Mine'\noptions.strenth = '1",
            CODE.format(name="Mine", load=LOAD),
            "my_g:Mine cannot be made with strenth: TypeError: Mine.__init__() got an unexpected keyword",
        ),
    ],
)  # fmt: skip
def test_a_model_that_cannot_be_imported_is_an_error_with_its_location(
    own_modules: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    code: str | None,
    words: str,
) -> None:
    nextday = CommandLine(own_modules, monkeypatch, capsys)
    if code:
        Path(kind.partition(":")[0] + ".py").write_text(code)
    CONFIG.write_text(f"[model]\nkind = '{kind}'\n")
    said = nextday(*HERE, "update")
    assert said.code == 2
    assert words in "\n".join(told(said))
    assert not Path("w/prices").exists()


OWN = {"kind": "m:Mine"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model": {"kind": "m:Momentum"}}, "Momentum is the name of a baseline"),
        ({"model": {"kind": "m:"}}, "or package.module:Name for a custom model"),
        ({"model": {"options": {"a": 1}}}, "options are for a custom model"),
        ({"model": OWN | {"scope": "symbol"}}, "scope = 'symbol' is for nextday's networks"),
        ({"model": OWN, "training": {"mode": "sequence"}}, "mode = 'sequence' and warm_start are for nextday's"),
        ({"model": OWN, "training": {"warm_start": True}}, "mode = 'sequence' and warm_start are for nextday's"),
        ({"model": OWN | {"options": {"api_key": "abc"}}}, "api_key looks like a secret"),
        ({"model": OWN | {"options": {"a": {"b": 1}}}}, "a: a name takes text, a number"),
        ({"model": OWN | {"options": {"a": [float("nan")]}}}, "a: a name takes text, a number"),
        ({"model": OWN | {"options": 3}}, "write a table"),
    ],
)  # fmt: skip
def test_settings_that_mean_nothing_to_it_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        Config.model_validate(settings)


def test_no_name_of_a_baseline_is_free() -> None:
    assert {*BASELINES, BEST_BEFORE} == BASELINE_NAMES


def test_kind_and_options_are_part_of_the_settings_and_none_change_no_digest() -> None:
    made = Config.model_validate({"model": OWN | {"options": {"a": [1, 2], "b": True}}})
    assert made.model.name == "Mine"
    assert made.resolved()["model"]["options"] == {"a": [1, 2], "b": True}
    assert list_parameters(made)["model.options"] == '{"a": [1, 2], "b": true}'
    assert "options" not in Config().resolved()["model"]
