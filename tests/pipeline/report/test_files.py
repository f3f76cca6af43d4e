import re
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from pipeline.errors import NextdayError
from pipeline.evaluation.verdict import Verdict
from pipeline.report.charts.evaluation import draw_forecasts
from pipeline.report.evening_markdown import summary_markdown
from pipeline.report.evening_page import render
from pipeline.report.evening_report import Report
from pipeline.report.files import FORECAST_COLUMNS, write
from pipeline.report.tables import METRIC_CAPTIONS
from pipeline.schema import FORECASTS, SCORES, empty
from tests.conftest import PROJECT

DAYS = pd.bdate_range("2018-01-01", periods=120).as_unit("us")  # stand-ins for sessions
AS_OF, TARGET = pd.Timestamp("2018-12-31"), pd.Timestamp("2019-01-02")
EVENING = datetime(2018, 12, 31, 22, 4, 11, tzinfo=UTC)
EVIL = "<script>alert('x')</script>"


def forecasts(*symbols: str, **columns: Any) -> pd.DataFrame:
    count = len(symbols)
    frame = pd.DataFrame({"symbol": symbols}).assign(
        as_of=AS_OF, target_session=TARGET, horizon=1, model_version="gru-1", issued_at=EVENING,
        p_up=np.linspace(0.49, 0.56, count), low=0.48, high=0.57, direction="up", baseline_p_up=0.53,
        last_close=2506.85009765625, data_version=7, config_digest="c0ffee", role="champion", kind="late",
        target="direction", is_new=True,
    )  # fmt: skip
    return frame.assign(**columns).astype(
        {"as_of": "datetime64[us]", "target_session": "datetime64[us]", "issued_at": "datetime64[us, UTC]"}
    )


def scored(group: str = "all", horizon: int = 1) -> pd.DataFrame:
    lines = [
        {"model": model, "group": group, "metric": metric, "value": value, "low": value - 0.01, "high": value + 0.01,
         "n": 240, "effective_n": 150.0, "sessions": 120, "baseline": "base_rate", "baseline_value": 0.51,
         "p_value": 0.4, "horizon": horizon, "t_statistic": float("nan"), "target": "direction"}
        for model, shift in (("gru", 0.0), ("base_rate", 0.001), ("always_up", 2.5))
        for metric, value in (("hit_rate", 0.52), ("log_loss", 0.692 + shift), ("auc", float("nan")))
    ]  # fmt: skip
    return pd.DataFrame(lines)


def told(model: str, seed: int) -> pd.DataFrame:
    p_up = 0.53 + 0.03 * np.random.default_rng(seed).standard_normal(2 * len(DAYS))
    outcome = (np.random.default_rng(0).random(2 * len(DAYS)) < 0.54).astype(float)
    keys = {"symbol": np.repeat(["^GSPC", "^IXIC"], len(DAYS)), "as_of": np.tile(DAYS, 2)}
    rows = pd.DataFrame(
        {"model": model, **keys, "horizon": 1, "target": "direction", "p_up": p_up, "outcome": outcome}
    )
    rows["direction"] = np.where(rows["p_up"] > 0.5, "up", "down")
    return rows.assign(target_session=rows["as_of"] + pd.Timedelta(days=1))


def verdict(finding: str = "no edge found") -> Verdict:
    sentence = f"{finding.capitalize()}: over 120 sessions (240 forecasts) there is little to see."
    return Verdict(finding, sentence, "gru", "base_rate", 0.0002, -0.0011, 0.0015, 0.41, 240, 120)


def open_record(issued: pd.DataFrame) -> pd.DataFrame:
    nothing = pd.Series(pd.NaT, index=issued.index).dt.tz_localize("UTC")
    return issued.drop(columns="is_new").assign(outcome=np.nan, realized_return=np.nan, settled_at=nothing)


def settled_record(kind: str) -> pd.DataFrame:
    rows = told("gru", 3)
    return forecasts(*rows["symbol"]).assign(
        as_of=rows["as_of"], target_session=rows["target_session"], p_up=rows["p_up"], kind=kind,
        outcome=rows["outcome"], realized_return=0.01, settled_at=pd.Timestamp(EVENING),
    )  # fmt: skip


def corrections() -> pd.DataFrame:
    return pd.DataFrame(
        {"symbol": ["^GSPC", "^IXIC"], "as_of": AS_OF, "target_session": TARGET, "horizon": 1, "outcome": [0.0, np.nan],
         "realized_return": [-0.0012, np.nan], "settled_at": pd.Timestamp("2019-01-04T22:00Z"), "data_version": 9,
         "target": "direction", "first_outcome": [1.0, 1.0], "first_return": [0.0003, 0.002]}
    )  # fmt: skip


def a_report(*symbols: str, **fields: Any) -> Report:
    issued = forecasts(*(symbols or ("^GSPC", "^IXIC")))
    epochs = pd.DataFrame(
        {"fit": "score", "member": np.repeat([1, 2], 4), "epoch": [1, 2, 3, 4] * 2, "loss": 0.69, "hit_rate": 0.5,
         "stop_loss": 0.692, "stop_hit_rate": 0.5, "gradient_norm": 0.3}
    )  # fmt: skip
    ranges = pd.DataFrame(
        [("score", "train", DAYS[0], DAYS[60], 61, 122), ("score", "test", DAYS[62], DAYS[-1], 58, 116)],
        columns=["fit", "part", "first_session", "last_session", "sessions", "rows"],
    )
    defaults: dict[str, Any] = {
        "universe": "sample", "calendar": "XNYS", "as_of": AS_OF, "target_session": TARGET, "issued_at": EVENING,
        "kind": "late", "historical": True, "forecasts": issued, "skipped": pd.DataFrame({"symbol": [], "reason": []}),
        "members": 2, "covered": 2, "bias": "", "verdict": verdict(), "scores": scored(),
        "test_rows": pd.concat([told("gru", 1), told("base_rate", 2)]), "live_scores": empty(SCORES),
        "record": open_record(issued), "corrections": corrections().head(0), "epochs": epochs, "ranges": ranges,
        "findings": pd.DataFrame({name: [] for name in ("symbol", "session", "rule", "detail")}),
        "model": {"version": "gru-1"}, "trained_through": AS_OF, "model_age": 0, "promoted_at": EVENING,
        "data_version": 7, "newest_observed_at": EVENING - timedelta(hours=2), "sessions_behind": 0,
        "config_digest": "c0ffee", "ledger_head": "9e2b" * 16, "notes": ["The first row stands."],
    }  # fmt: skip
    return Report(**defaults | fields)


UNDRAWN = dict.fromkeys(
    ("difference", "methods", "reliability", "coverage", "training", "ranges"), '<svg role="img"></svg>'
)
"""Stored figures for a page whose words alone are tested: to draw them takes most of the time of a page."""


def figures(page: str) -> list[ElementTree.Element]:
    svgs = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    return [ElementTree.fromstring(svg.replace("<svg", '<svg xmlns:xlink="x"', 1)) for svg in svgs]


def titles(page: str) -> set[str]:
    return {figure.findtext("title") or "" for figure in figures(page)}


@pytest.fixture(scope="module")
def page() -> str:
    return render(a_report())


@pytest.fixture(scope="module")
def long_page() -> str:
    return render(a_report(*(f"S{i}" for i in range(500))))


@pytest.fixture
def only_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.report.files.render", lambda report: "a page")


@pytest.mark.usefixtures("only_tables")
def test_the_forecasts_read_back_as_they_were_issued(tmp_path: Path) -> None:
    report = a_report("^IXIC", "^GSPC")
    paths = write(report, tmp_path)
    assert paths.folder == tmp_path / "sample" / "2019-01-02"
    read = pd.read_csv(paths.forecast_csv, parse_dates=["target_session", "as_of", "issued_at"])
    assert list(read.columns) == FORECAST_COLUMNS
    assert list(read["symbol"]) == ["^GSPC", "^IXIC"]
    issued = report.forecasts.sort_values("symbol", ignore_index=True)
    for name in ("p_up", "low", "high", "baseline_p_up", "last_close"):
        np.testing.assert_allclose(read[name], issued[name], atol=5e-7)
    assert read["issued_at"].eq(pd.Timestamp(EVENING)).all()
    assert read["target_session"].eq(TARGET).all()
    assert read["as_of"].eq(AS_OF).all()


@pytest.mark.usefixtures("only_tables")
def test_the_first_lines_of_the_csv_are_these(tmp_path: Path) -> None:
    text = write(a_report("^GSPC"), tmp_path).forecast_csv.read_text()
    assert text.splitlines() == [
        "target_session,symbol,direction,p_up,low,high,baseline_p_up,as_of,last_close,issued_at,kind,model_version,"
        "data_version,config_digest,coverage,survivorship_biased,horizon,last_call,differs_from_base_rate,"
        "p_low,p_high,data_coverage,target",
        "2019-01-02,^GSPC,up,0.490000,0.480000,0.570000,0.530000,2018-12-31,2506.850098,2018-12-31T22:04:11Z,late,"
        "gru-1,7,c0ffee,1.000000,False,1,,False,0.480000,0.570000,1.000000,direction",
    ]


@pytest.mark.usefixtures("only_tables")
@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t", "\r"])
def test_a_text_that_a_spreadsheet_would_run_is_led_by_an_apostrophe(tmp_path: Path, sign: str) -> None:
    evil = f"{sign}HYPERLINK(1)"
    report = a_report(forecasts=forecasts("^GSPC", model_version=evil))
    read = pd.read_csv(write(report, tmp_path).forecast_csv)
    assert read["model_version"].tolist() == ["'" + evil.replace("\r", " ")]
    assert read["symbol"].tolist() == ["^GSPC"]


@pytest.mark.usefixtures("only_tables")
def test_the_scores_of_test_and_record_are_in_one_file(tmp_path: Path) -> None:
    paths = write(a_report(live_scores=scored("live")), tmp_path)
    read = pd.read_csv(paths.scores_csv)
    assert list(read.columns) == list(SCORES.columns)
    assert read.groupby("group").size().to_dict() == {"all": 9, "live": 9}
    assert not read[["low", "high"]][read["metric"] != "auc"].isna().any().any()


@pytest.mark.usefixtures("only_tables")
def test_latest_follows_the_newest_session_and_never_goes_back(tmp_path: Path) -> None:
    monday = write(a_report("^GSPC"), tmp_path)
    assert monday.latest_csv == tmp_path / "sample" / "latest.csv"
    assert monday.latest_csv.read_bytes() == monday.forecast_csv.read_bytes()
    later = pd.Timestamp("2019-01-03")
    tuesday = write(
        a_report(target_session=later, forecasts=forecasts("^GSPC", target_session=later)), tmp_path
    )
    assert tuesday.latest_csv.read_bytes() == tuesday.forecast_csv.read_bytes()
    sealed = pd.concat([forecasts("^GSPC"), forecasts("^GSPC", as_of=TARGET, target_session=later)])
    again = write(a_report("^GSPC", record=sealed.assign(outcome=np.nan, realized_return=np.nan)), tmp_path)
    assert (
        again.latest_csv.read_bytes() == tuesday.forecast_csv.read_bytes() != again.forecast_csv.read_bytes()
    )


@pytest.mark.usefixtures("only_tables")
@pytest.mark.parametrize(
    "damage",
    [b"", b"\xff\xfe\x00", b"a,b\n1,2\n", b"target_session\n", b"target_session,symbol\n31.12.2018,^GSPC\n"],
    ids=["empty", "binary", "other columns", "no row", "saved again by a spreadsheet"],
)
def test_a_damaged_latest_is_replaced(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "sample").mkdir()
    (tmp_path / "sample" / "latest.csv").write_bytes(damage)
    paths = write(a_report(), tmp_path)
    assert paths.latest_csv.read_bytes() == paths.forecast_csv.read_bytes()


@pytest.mark.slow
def test_a_file_that_cannot_be_written_is_named_and_nothing_half_remains(tmp_path: Path) -> None:
    blocked = tmp_path / "sample" / "2019-01-02" / "report.html"
    blocked.mkdir(parents=True)
    with pytest.raises(NextdayError, match="Cannot write") as caught:
        write(a_report(), tmp_path)
    assert caught.value.where == str(blocked)
    assert (tmp_path / "sample" / "latest.csv").exists()  # the page is the last to be written
    assert sorted(path.name for path in blocked.parent.iterdir()) == [
        "forecast.csv",
        "report.html",
        "scores.csv",
    ]


@pytest.mark.slow
def test_a_second_render_gives_the_same_bytes(page: str) -> None:
    assert render(a_report()) == page


@pytest.mark.slow
def test_another_process_gives_the_same_bytes(page: str) -> None:
    code = (
        f"import sys; sys.path[:0] = {[str(PROJECT)]!r}; from tests.pipeline.report import test_files as t; "
        "sys.stdout.write(t.render(t.a_report()))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == page


@pytest.mark.slow
def test_the_page_makes_no_request(page: str, long_page: str) -> None:
    for text in (page, long_page):
        assert not re.findall(r'(?:src|href|action)\s*=\s*"(?!#|\.\./index\.html")[^"]*"', text)
        assert not re.findall(r"@import|url\((?!#)|https?://(?!www\.w3\.org/)", text)
        assert "default-src 'none'" in text


def test_five_hundred_symbols_stay_far_below_a_megabyte(long_page: str) -> None:
    assert long_page.count('<tr><th scope="row">S') == 500
    assert len(long_page.encode()) < 500_000


def test_every_figure_is_well_formed_described_and_in_the_colours_of_the_page(page: str) -> None:
    found = figures(page)
    assert len(found) == 8
    for figure in found:
        assert figure.get("role") == "img"
        assert figure.findtext("title")
        assert len(figure.findtext("desc") or "") > 20
    drawn = "".join(re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL))
    assert "var(--first)" in drawn
    assert not re.findall(r"(?:fill|stroke): #[0-9a-f]{3}", drawn)


def test_every_id_is_unique_on_the_page(page: str) -> None:
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids)) > 10


@pytest.mark.slow
def test_what_others_wrote_is_shown_and_never_run() -> None:
    report = a_report(
        figures=UNDRAWN,
        skipped=pd.DataFrame({"symbol": ["ZZZ"], "reason": [EVIL]}),
        findings=pd.DataFrame({"symbol": ["ZZZ"], "session": [AS_OF], "rule": [EVIL], "detail": [EVIL]}),
        model={"version": EVIL},
        notes=[EVIL],
        verdict=replace(verdict(), sentence=EVIL),
    )
    page = render(report)
    assert EVIL not in page
    assert page.count("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;") == 7
    assert "<script>" not in summary_markdown(report)


@pytest.mark.slow
@pytest.mark.parametrize("finding", ["edge", "no edge found", "worse than the baseline", "not enough data"])
def test_every_finding_is_a_headline_with_its_meaning(finding: str) -> None:
    page = render(a_report(verdict=verdict(finding), figures=UNDRAWN))
    assert f'<h2 id="verdict">{finding.capitalize()}</h2>\n<p class="plain">' in page
    assert re.search(
        r'<p class="plain">[A-Z][^<]{40,}</p>\n<p class="small">Over 120 sessions[^<]+</p>', page
    )


def test_the_verdict_comes_before_the_forecasts(page: str) -> None:
    summary = summary_markdown(a_report())
    assert page.index("Verdict on the method") < page.index("<h2>Forecasts</h2>")
    assert summary.index("No edge found") < summary.index("| ^GSPC")


@pytest.mark.slow
def test_how_many_settings_were_tried_is_next_to_the_verdict(page: str) -> None:
    report = a_report(tried="23 settings were tried on this universe.", figures=UNDRAWN)
    tried = render(report)
    section = tried[tried.index('<section class="verdict"') : tried.index("</section>")]
    assert "23 settings were tried" in section
    assert "23 settings were tried" in summary_markdown(report)
    assert "were tried" not in page


def test_no_score_lacks_interval_n_and_baseline(page: str) -> None:
    row = re.search(r'title="[^"]*">hit rate</th>(.*?)</tr>', page)
    assert row
    shown = re.sub(r"<[^>]+>", " ", row[1]).split()
    assert shown == ["52.0%", "51.0%", "to", "53.0%", "51.0%", "base", "rate", "0.400", "240", "150", "120"]


@pytest.mark.slow
def test_short_tables_leave_further_metrics_to_the_file(tmp_path: Path) -> None:
    further = scored().query("metric == 'log_loss'").assign(metric="ece")
    report = a_report(scores=pd.concat([scored(), further]), figures=UNDRAWN)
    assert METRIC_CAPTIONS["ece"][0] not in summary_markdown(report)
    page = render(report)
    own, _, every = page.partition("Every method, every score")
    assert f"{METRIC_CAPTIONS['ece'][0]}</th>" not in own
    assert METRIC_CAPTIONS["ece"][0] in every
    assert "ece" in set(pd.read_csv(write(report, tmp_path).scores_csv)["metric"])


def test_a_metric_without_an_explanation_keeps_its_name() -> None:
    new = scored().query("metric == 'log_loss'").assign(metric="crps")
    report = a_report(scores=pd.concat([scored(), new]), figures=UNDRAWN)
    assert "| crps | 0.6920 |" in summary_markdown(report)
    assert re.search(r"<th[^>]*>crps</th>", render(report))


def test_the_first_evening_says_that_nothing_is_settled_yet(page: str) -> None:
    assert "2 forecasts are sealed and none is settled yet" in page
    assert "live record" not in page


def test_a_settled_record_is_counted_and_scored_by_kind() -> None:
    record = pd.concat([settled_record("live"), open_record(forecasts("^GSPC", "^IXIC"))])
    page = render(a_report(record=record, live_scores=scored("live"), figures=UNDRAWN))
    assert "<b>242</b> forecasts of this universe over <b>121</b> sessions" in page
    assert "240 with an outcome, 2 still open" in page
    assert "gru, live record" in page
    assert "The newest 50 settled forecasts" in page


def test_an_unscored_model_makes_a_whole_page() -> None:
    report = a_report(
        verdict=None, scores=empty(SCORES), test_rows=told("gru", 1).head(0), record=open_record(forecasts("^GSPC")),
        ranges=pd.DataFrame(), epochs=pd.DataFrame({"fit": []}),
    )  # fmt: skip
    page = render(report)
    assert "Not scored yet" in page
    assert "There is no score yet." in page
    assert titles(page) == {"Probability of up, symbol by symbol"}
    assert "There is no score yet." in summary_markdown(report)


def test_many_forecasts_are_drawn_as_a_histogram_and_few_one_by_one() -> None:
    few, many = (draw_forecasts(forecasts(*(f"S{i}" for i in range(count)))) for count in (30, 31))
    assert titles(few) == {"Probability of up, symbol by symbol"}
    assert titles(many) == {"Distribution of the probabilities of up"}


def test_the_forecasts_of_these_tests_are_valid() -> None:
    FORECASTS.validate(forecasts("^GSPC", "^IXIC").drop(columns="is_new")[list(FORECASTS.columns)])


@pytest.mark.slow
def test_revised_outcomes_are_listed_next_to_the_first_ones() -> None:
    page = render(a_report(record=settled_record("live"), corrections=corrections(), figures=UNDRAWN))
    assert "The source has since revised 2 outcomes. The first value counts" in page
    (table,) = re.findall(r"<caption>The newest corrections</caption>.*?</table>", page, flags=re.DOTALL)
    cells = re.findall(r"<t[dh][^>]*>([^<]*)</t[dh]>", table)
    assert cells[:7] == ["session", "symbol", "first outcome", "return", "revised", "return", "since"]
    assert cells[7:14] == ["2019-01-02", "^GSPC", "up", "+0.03%", "down", "-0.12%", "2019-01-04"]
    assert cells[14:] == ["2019-01-02", "^IXIC", "up", "+0.20%", "none", "–", "2019-01-04"]
    assert "since revised" not in render(a_report(record=settled_record("live"), figures=UNDRAWN))
