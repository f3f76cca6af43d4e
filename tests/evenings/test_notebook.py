"""The lines of docs/python.md run as they stand, and leave a workspace as it is."""

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from arch.data import nasdaq, sp500

from flows.notebook import Picture, Scored, fit_and_score, open_workspace
from pipeline.errors import InputError
from pipeline.schema import SCORES, validated
from tests.conftest import PROJECT
from tests.support.command_line import contents
from tests.support.own_process import EVENING

pytestmark = [pytest.mark.slow, pytest.mark.own_process(*EVENING)]


def read_frame() -> pd.DataFrame:
    """Return the newspaper's bars of two indices from 2010 on, as somebody's own file."""
    parts = [
        data["2010":].drop(columns="Adj Close").rename_axis("date").reset_index().assign(symbol=name)
        for name, data in (("SPX", sp500.load()), ("IXIC", nasdaq.load()))
    ]
    return pd.concat(parts, ignore_index=True)


@pytest.fixture
def place(first_evening: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = Path(shutil.copytree(first_evening, tmp_path / "place"))
    monkeypatch.chdir(folder)
    return folder


def test_the_lines_of_the_page_run_and_a_workspace_stays_as_it_is(place: Path) -> None:
    read_frame().to_csv("prices.csv", index=False)
    blocks = re.findall(r"```python\n(.*?)```", (PROJECT / "docs" / "python.md").read_text("utf-8"), re.S)
    assert len(blocks) == 4
    before, names = contents(place), dict[str, Any]()
    for block in blocks:
        exec(block, names)
    assert contents(place) == before

    assert names["bars"]["session"].max() == pd.Timestamp("2018-12-07")
    assert (names["then"]["observed_at"] <= pd.Timestamp("2018-12-12T00:00Z")).all()
    assert len(names["then"]) > 0
    known, record = names["known"], names["record"]
    assert known.x.shape[2] == len(known.features) == names["features"].shape[1]
    assert names["features"].notna().any(axis=1).sum() == known.mask[[*known.symbols].index("^GSPC")].sum()
    assert names["adjusted"].index.size == len(names["w"].prices(["^GSPC"]))
    assert len(record) == 2
    assert names["live"].empty  # nothing is settled on the first evening
    assert "2 forecasts sealed, 0 settled" in names["w"]._repr_html_()

    held_out, result = names["held_out"], names["result"]
    assert isinstance(held_out.figures["reliability"], Picture)
    assert held_out.figures["reliability"]._repr_html_().lstrip().startswith("<svg")
    for scored in (held_out, result):
        validated(scored.scores, SCORES)
        assert scored.verdict.sentence.split(".")[0] in scored._repr_html_().replace("&#x27;", "'")
    own = result.test_rows[result.test_rows["model"] == "logistic"]
    hits = result.scores[(result.scores["model"] == "logistic") & (result.scores["metric"] == "hit_rate")]
    told = own.dropna(subset=["outcome"])
    assert hits["value"].iloc[0] == pytest.approx(np.mean((told["p_up"] > 0.5) == (told["outcome"] == 1)))


def test_what_cannot_be_read_is_named(place: Path) -> None:
    w = open_workspace("nextday.toml")
    for wrong in (
        lambda: w.prices(as_of="yesterday"),
        lambda: w.prices(known_at="soon"),
        lambda: w.prices(as_of="2018-12-09"),
        lambda: w.features("NOBODY"),
        lambda: w.history("NOBODY"),
    ):
        with pytest.raises(InputError) as refused:
            wrong()
        assert refused.value.fix


def test_a_frame_or_settings_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'kind'"):
        fit_and_score(read_frame(), {"model": {"knid": "gru"}}, folder=tmp_path / "kept")
    assert (tmp_path / "kept" / "nextday.toml").exists()
    with pytest.raises(InputError):
        fit_and_score(read_frame().head(0))


def test_a_result_shows_texts_as_texts() -> None:
    from tests.pipeline.report.test_files import EVIL, scored, verdict

    hostile = scored().assign(group=EVIL)
    html = Scored(verdict(EVIL), hostile, pd.DataFrame())._repr_html_()
    assert EVIL not in html
