"""The page of a backtest: verdict first, every number with its evidence, and whole on a phone."""

import io
import re
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from flows.backtest import Backtested
from flows.cli.output import show_backtest
from pipeline.config import TradingConfig
from pipeline.evaluation.robustness import run_robustness_tests
from pipeline.evaluation.scores import score
from pipeline.evaluation.session_sums import METRICS, RETURN_METRICS
from pipeline.evaluation.subgroups import score_groups
from pipeline.evaluation.timing_and_picking import LOOKS, judge_skills
from pipeline.evaluation.verdict import judge
from pipeline.outputs import Output
from pipeline.report.backtest_markdown import backtest_markdown
from pipeline.report.backtest_page import render_backtest
from pipeline.report.backtest_report import Backtest, groups_csv, scores_csv, write_forecasts
from pipeline.trading.fills import Fills
from pipeline.trading.view import view_trading
from tests.pipeline.report.test_files import figures, titles
from tests.pipeline.report.test_page_in_a_browser import CONTRAST, TEXT_AND_GROUND, contrast
from tests.support.chromium import open_tab

SYMBOLS = ("005930.KS", "RDSA.AMS", "^GSPC")
SESSIONS = 320
BASELINE = "logistic_without_universe"


def made(**changes: Any) -> Backtest:
    """Return the backtest of made-up forecasts with these changes."""
    return replace(_scored(), **changes)


@cache
def _scored(skill: float = 0.02) -> Backtest:
    """Return a backtest of made-up forecasts that are right by so much more than half; it is scored once."""
    rng = np.random.default_rng(2)
    days = pd.bdate_range("2014-01-02", periods=SESSIONS + 1).astype("datetime64[us]")
    moves = rng.normal(0, 0.01, (SESSIONS + 1, len(SYMBOLS)))
    close = 100 * np.exp(np.cumsum(moves, axis=0))
    up = moves[1:] > 0
    right = rng.random(up.shape) < 0.5 + skill
    size = 0.03 * rng.random(up.shape)
    p = {
        "gru": 0.5 + np.where(right == up, size, -size),
        "base_rate": np.full(up.shape, 0.51),
        BASELINE: 0.5 + 0.05 * rng.standard_normal(up.shape),
    }
    keys = _outcomes(days, up, np.expm1(moves[1:]))
    rows = pd.concat(
        [keys.assign(model=name, p_up=each.ravel(), direction="up") for name, each in p.items()],
        ignore_index=True,
    )
    gone_by = np.vstack([close[:1], close[:-1]])
    fills = Fills(days, list(SYMBOLS), gone_by * 1.001, close, gone_by, np.expm1(moves))
    names = {"model": "gru", "baseline": BASELINE}
    best = pd.DataFrame(
        {"target": "direction", "horizon": 1, "skill": ["timing", "picking"], "baseline": BASELINE}
    )
    moment = datetime(2019, 6, 1, 12, tzinfo=UTC)
    facts: dict[str, Any] = {
        "universe": "three",
        "calendar": "XKRX",
        "as_of": days[-1],
        "made_at": moment,
        "forecasts": _forecasts(rows[rows["model"] == "gru"], moment),
        "test_rows": rows,
        "scores": score(rows, baseline=BASELINE, draws=100),
        "verdict": replace(
            judge(rows, **names, draws=100), skills=judge_skills(rows, model="gru", best=best, draws=100)
        ),
        "further": {},
        "ranges": _ranges(days),
        "epochs": pd.DataFrame(columns=["fit", "member", "epoch", "loss", "stop_loss"]),
        "groups": score_groups(rows, **names, draws=100),
        "tests": run_robustness_tests(rows, **names, draws=100),
        "trading": view_trading(rows, fills, TradingConfig(), **names, trials=3, draws=100),
        "method": {"network": "gru of 1 layer of 16 units", "settings": "0123456789abcdef"},
        "tried": "3 settings were tried on this universe.",
        "bias": "survivorship-biased: the constituent list has no entry and exit dates",
        "notes": ["A note with a <b>tag</b> and a day, 2019-06-01."],
    }
    return Backtest(**facts)


def _outcomes(days: pd.DatetimeIndex, up: np.ndarray, returns: np.ndarray) -> pd.DataFrame:
    """Return the keys of two folds with what happened, from [session, symbol]."""
    return pd.DataFrame(
        {
            "symbol": np.tile(np.array(SYMBOLS, dtype=object), SESSIONS),
            "as_of": days[:-1].repeat(len(SYMBOLS)),
            "target_session": days[1:].repeat(len(SYMBOLS)),
            "horizon": 1,
            "target": "direction",
            "outcome": up.ravel().astype(float),
            "realized_return": returns.ravel(),
            "fold": np.repeat([1, 2], SESSIONS * len(SYMBOLS) // 2),
        }
    ).astype({"symbol": "str"})


def _forecasts(rows: pd.DataFrame, moment: datetime) -> pd.DataFrame:
    return rows.assign(
        model_version="m", issued_at=pd.Timestamp(moment), low=rows["p_up"] - 0.01, high=rows["p_up"] + 0.01,
        baseline_p_up=0.51, last_close=100.0, data_version=1, config_digest="d", role="champion", kind="backtest",
    )  # fmt: skip


def _ranges(days: pd.DatetimeIndex) -> pd.DataFrame:
    parts = ("train", "stop", "calibrate", "test")
    return pd.DataFrame(
        {
            "fit": f"fold {fold}",
            "part": part,
            "first_session": days[40 * place + 80 * fold],
            "last_session": days[40 * place + 80 * fold + 38],
            "sessions": 39,
            "rows": 117,
        }
        for fold in (1, 2)
        for place, part in enumerate(parts)
    )


@pytest.fixture(scope="module")
def page() -> str:
    return render_backtest(made())


@pytest.mark.slow
def test_the_verdict_comes_first_and_says_how_long_it_would_take(page: str) -> None:
    places = [page.index(words) for words in ("Verdict on the method", "How good is", "would have earned")]
    assert places == sorted(places)
    assert "more sessions are needed to distinguish a hit rate of 52% from 50%" in page
    assert "3 settings were tried" in page


@pytest.mark.slow
def test_equal_backtests_give_equal_bytes_and_make_no_request(page: str) -> None:
    assert render_backtest(made()) == page
    assert not re.findall(r"(?:src|href|url)\s*[=(]\s*[\"']?https?:", page)
    assert "A note with a &lt;b&gt;tag&lt;/b&gt;" in page


def test_every_figure_has_a_title(page: str) -> None:
    assert "Cumulative log loss saved" in titles(page)
    assert len(titles(page)) == len(figures(page)) == 7


def test_every_family_of_groups_says_how_many_were_tested(page: str) -> None:
    for family in ("symbol", "year", "weekday", "confidence"):
        assert re.search(rf"By {family}: \d+ groups? tested, (none|\d+) significantly different", page)


def test_a_score_comes_with_its_interval_n_and_baseline(page: str) -> None:
    rows = re.findall(r"<tr>(.*?)</tr>", page.split("</caption>")[1], flags=re.DOTALL)[1:]
    assert len(rows) == len(METRICS) + len(RETURN_METRICS)
    for row in rows:
        # Three symbols are too few to rank: there is no number, and the reason.
        is_of_returns = ">rank IC" in row or ">top minus" in row
        assert ("– (too few stocks)" if is_of_returns else " to ") in row
        assert "logistic without universe" in row
        assert re.search(r"<td>\d[\d,]* <span", row)


def test_timing_and_picking_stand_below_the_headline_with_their_error_rate(page: str) -> None:
    top = page[: page.index("How good is")]
    assert re.search(
        r'<p class="small"><b>Timing: none</b>; log loss saved per session by the session means', top
    )
    assert "<b>Picking: too little data</b>; no session has 5 stocks" in top
    assert LOOKS in top
    markdown = backtest_markdown(made())
    assert markdown.index("Picking: too little data") < markdown.index("| rows |")
    without = replace(made().verdict, skills=())
    assert LOOKS not in render_backtest(made(verdict=without))


def test_the_skills_of_a_farther_horizon_are_on_the_page_too() -> None:
    verdict = made().verdict
    page = render_backtest(made(further={Output("direction", 5): verdict}))
    assert '<span class="under">timing none, picking too little data</span>' in page
    assert page.count("Picking: too little data") == 2


def test_the_tables_for_machines_have_every_row() -> None:
    backtest = made()
    file = io.BytesIO()
    write_forecasts(file, backtest)
    assert len(file.getvalue().splitlines()) == 1 + SESSIONS * len(SYMBOLS)
    assert len(scores_csv(backtest).splitlines()) == 1 + len(backtest.scores)
    assert len(groups_csv(backtest).splitlines()) == 1 + len(backtest.groups)


@pytest.mark.slow
def test_many_symbols_are_listed_in_part_and_the_rest_is_named() -> None:
    groups = made().groups
    symbol = groups[(groups["family"] == "symbol") & (groups["group"] == SYMBOLS[0])]
    many = pd.concat([symbol.assign(group=f"S{number:03d}") for number in range(80)])
    page = render_backtest(made(groups=many))
    assert "50 more are in groups.csv" in page


@pytest.mark.slow
def test_a_verdict_of_an_edge_says_so() -> None:
    page = render_backtest(made(verdict=replace(made().verdict, conclusion="edge", sentence="Edge: here.")))
    assert '<h2 id="verdict">Edge</h2>' in page


@pytest.mark.slow
def test_a_browser_shows_it_whole_on_a_phone_in_the_dark_and_without_a_request(
    page: str, tmp_path: Path
) -> None:
    file = tmp_path / "report.html"
    file.write_text(page, encoding="utf-8")
    with open_tab() as tab:
        for width in (360, 768, 1280):
            tab.open(file.as_uri(), width=width, dark=width == 768)
            tab.ask("document.querySelectorAll('details').forEach(d => d.open = true)")
            assert tab.ask("document.documentElement.scrollWidth") == width
            cut = "[...document.querySelectorAll('.scroll:not(.long)')].filter(e => e.scrollWidth > e.clientWidth)"
            assert tab.ask(f"{cut}.map(e => e.innerText.slice(0, 60))") == []
            letters = tab.ask(TEXT_AND_GROUND)
            assert len(letters) > 200
            assert [what for what in letters if contrast(what[1], what[2]) < CONTRAST] == []
        requests = [asked["request"]["url"] for asked in tab.happened("Network.requestWillBeSent")]
        assert set(requests) == {file.as_uri()}
        assert tab.happened("Log.entryAdded") == tab.happened("Runtime.exceptionThrown") == []


def test_the_terminal_and_prefect_say_what_the_page_says(capsys: pytest.CaptureFixture[str]) -> None:
    backtest = made()
    short = backtest_markdown(backtest)
    show_backtest(Backtested(backtest, {}))
    shown = " ".join(capsys.readouterr().out.split())
    assert short.startswith(f"# three: {backtest.verdict.conclusion}\n\n**{backtest.verdict.sentence}**")
    assert "| log loss |" in short
    tests, size, trading = backtest.tests.sentences, backtest.tests.size.sentence, backtest.trading.sentence
    for sentence in (*tests.values(), size, trading, backtest.tried, backtest.bias):
        assert sentence.replace("<", "&lt;") in short
        assert " ".join(sentence.split()) in shown
    groups = r"groups: significantly different from the baseline: \w+ of 3 by symbol, \w+ of \d by year"
    assert re.search(groups, short)
    assert re.search(groups, shown)
