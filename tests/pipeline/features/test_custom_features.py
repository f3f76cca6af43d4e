"""Features of one's own: the page's example runs, what breaks the contract is named, nothing is written into."""

import dataclasses
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from pipeline.audit.feature_checks import check_changed, check_cut_off, check_labels, check_order, check_reach
from pipeline.config import Config
from pipeline.config_file import load
from pipeline.errors import ConfigError, InputError
from pipeline.features.columns import FeatureSet
from pipeline.features.custom_features import EXTENSION_POINT, find_features, wrap_features
from pipeline.features.feature_sets import FEATURE_SETS
from pipeline.features.panel import Panel, build_panel
from pipeline.market.calendar import Calendar
from pipeline.outputs import Output
from pipeline.plugins import digest_code
from tests.conftest import PROJECT
from tests.pipeline.audit.conftest import audit_of, market
from tests.support.command_line import HERE, CommandLine, told
from tests.support.made_sequences import directions

PAGE = (PROJECT / "docs" / "custom_features.md").read_text()


def block(name: str) -> str:
    found = re.search(rf"```(?:python|toml)\n# {re.escape(name)}.*?\n(.*?)```", PAGE, re.S)
    assert found is not None
    return found.group(1)


@pytest.fixture
def place(own_modules: Path) -> Path:
    return own_modules


@pytest.fixture
def pages(place: Path) -> FeatureSet:
    (place / "my_features.py").write_text(block("my_features.py"))
    (place / "nextday.toml").write_text(block("nextday.toml"))
    return find_features(load(place / "nextday.toml").features.set, place, directions(1))


@pytest.fixture(scope="module")
def panel(xnys: Calendar) -> Panel:
    return build_panel(market(xnys))


def test_the_documented_set_computes_what_its_columns_are_named_for(pages: FeatureSet, panel: Panel) -> None:
    made = pages.compute(panel, panel.has_bar)
    assert pages.columns == ("log_return_1", "log_return_5", "volatility_10", "volume_lagged")
    change = np.log(panel.adj_close[300] / panel.adj_close[299])
    np.testing.assert_allclose(made["log_return_1"].to_numpy()[300], change)
    np.testing.assert_allclose(
        made["volatility_10"].to_numpy()[300],
        np.diff(np.log(panel.adj_close[290:301]), axis=0).std(axis=0, ddof=1),
    )
    volume = panel.volume[290:300]
    np.testing.assert_allclose(made["volume_lagged"].to_numpy()[300], volume[-1] / volume.mean(axis=0) - 1)


def test_the_pages_set_passes_what_the_audit_asks_of_features(pages: FeatureSet, xnys: Calendar) -> None:
    bench = audit_of(market(xnys), pages)
    known = bench.make()
    checks = [
        *(check(bench, known, 6) for check in (check_cut_off, check_changed, check_reach)),
        check_order(bench, known),
        check_labels(known, range(len(known.sessions))),
    ]
    assert [(check.status, check.evidence) for check in checks if check.status != "passed"] == []


def test_the_digest_is_of_the_file_that_was_imported(
    place: Path, pages: FeatureSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = digest_code(pages.name, place, EXTENSION_POINT)
    (place / "other.py").write_text("")
    assert digest_code(pages.name, place, EXTENSION_POINT) == before
    with (place / "my_features.py").open("a") as file:
        file.write("# a word\n")
    assert digest_code(pages.name, place, EXTENSION_POINT) == before  # what is at work is what was imported
    monkeypatch.delitem(sys.modules, "my_features")
    assert digest_code(pages.name, place, EXTENSION_POINT) != before


def test_the_shipped_sets_are_found_by_their_names(tmp_path: Path) -> None:
    assert {name: find_features(name, tmp_path, directions(1)) for name in FEATURE_SETS} == FEATURE_SETS


WRITE = "write default, own, relative, default16, closes, alstm11, returns31, wide, or package.module:NAME"


@pytest.mark.parametrize(
    ("targets", "name"),
    [
        (("direction",), "own"),
        (("relative",), "relative"),
        (("relative", "overnight_relative"), "relative"),
        (("direction", "relative"), "own"),
    ],
)
def test_the_default_set_is_chosen_by_what_is_forecast(
    targets: tuple[str, ...], name: str, tmp_path: Path
) -> None:
    assert find_features("default", tmp_path, [Output(target, 1) for target in targets]).name == name


def written(**changes: object) -> SimpleNamespace:
    compute: Callable[[Panel, object], object] = lambda panel, belongs: {"a": panel.close, "b": panel.close}  # noqa: E731
    return SimpleNamespace(
        **{"columns": ("a", "b"), "last_return": "a", "reach": 1, "compute": compute} | changes
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"columns": "ab"}, "tuple of names"),
        ({"columns": ()}, "tuple of names"),
        ({"columns": (1, 2)}, "tuple of names"),
        ({"columns": 3}, "tuple of names"),
        ({"columns": ("a", "a")}, "a name twice"),
        ({"last_return": "c"}, "last_return = 'c'"),
        ({"reach": -1}, "reach = -1"),
        ({"reach": 2.0}, "reach = 2.0"),
        ({"reach": True}, "reach = True"),
        ({"compute": 3}, "compute is not callable"),
    ],
)
def test_what_is_no_feature_set_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)) as caught:
        wrap_features(written(**changes), "m:N")
    assert caught.value.fix


def test_a_field_that_is_missing_is_named() -> None:
    with pytest.raises(ConfigError, match="no 'columns' on dict"):
        wrap_features({}, "m:N")


def _overwriting(panel: Panel, belongs: object) -> object:
    panel.adj_close[:] = 1
    return {}


@pytest.mark.parametrize(
    ("compute", "words"),
    [
        (lambda panel, belongs: [panel.close], "must return a dict of columns, not list"),
        (lambda panel, belongs: {"a": panel.close}, "returned no 'b'"),
        (lambda panel, belongs: {"a": panel.close, "b": panel.close[1:]}, "b has the shape"),
        (lambda panel, belongs: {"a": panel.close, "b": panel.close.astype(str)[..., None] + "x"}, "not numbers"),
        (lambda panel, belongs: 1 / 0, "compute raised ZeroDivisionError: division by zero (test_custom_features"),
        (_overwriting, "read-only (test_custom_features.py"),
    ],
)  # fmt: skip
def test_what_it_computes_is_checked(
    panel: Panel, compute: Callable[[Panel, object], object], words: str
) -> None:
    kept = panel.adj_close.copy()
    with pytest.raises(InputError, match=re.escape(words)):
        wrap_features(written(compute=compute), "m:N").compute(panel, panel.has_bar)
    assert np.array_equal(kept, panel.adj_close, equal_nan=True)


def test_arrays_and_frames_are_the_same(panel: Panel) -> None:
    frames = written(compute=lambda p, b: {"a": pd.DataFrame(p.close, index=p.sessions), "b": p.close})
    made = wrap_features(frames, "m:N").compute(panel, panel.has_bar)
    pd.testing.assert_frame_equal(made["a"], made["b"])
    assert dataclasses.is_dataclass(wrap_features(frames, "m:N"))


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("my_gone:MINE", None, "no module 'my_gone'"),
        ("my_a:MINE", "x = 1 / 0", "my_a cannot be imported: ZeroDivisionError"),
        ("my_b:MINE", "MIN = 3", "my_b has no 'MINE'"),
        ("my_c:MINE", "MINE = 3", "my_c:MINE: there is no 'columns' on int"),
        (
            "defualt",
            None,
            WRITE,
        ),
        (
            "../m:MINE",
            None,
            WRITE,
        ),
    ],
)
def test_a_set_that_cannot_be_imported_is_an_error_with_its_location(
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    code: str | None,
    words: str,
) -> None:
    nextday = CommandLine(place, monkeypatch, capsys)
    if code:
        Path(name.partition(":")[0] + ".py").write_text(code)
    Path("nextday.toml").write_text(f"[features]\nset = '{name}'\n")
    said = nextday(*HERE, "update")
    assert said.code == 2
    assert words in "\n".join(told(said))
    assert not Path("w/prices").exists()


def test_the_name_is_part_of_the_settings() -> None:
    made = Config.model_validate({"features": {"set": "m:N"}})
    assert made.resolved()["features"] == {"set": "m:N"}
