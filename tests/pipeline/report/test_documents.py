"""latest.json and record.json: what they say, and that they and every answer keep to the schemas in docs/schemas."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from jsonschema import Draft202012Validator, FormatChecker

from pipeline.monitoring.challenge import Comparison, Decision, Standing
from pipeline.monitoring.decay import Decay
from pipeline.outputs import MAIN
from pipeline.report import files
from pipeline.report.documents.answers import Check, CheckedPrices, Doctor, LedgerRows, PricesCheck
from pipeline.report.documents.evening import Latest, Record
from pipeline.report.documents.failure import Failure
from pipeline.report.documents.schemas import DOCUMENTS, make_schema
from pipeline.report.evening_report import ChallengerRecord
from pipeline.report.files import list_rows, write
from tests.conftest import PROJECT
from tests.pipeline.report.test_files import (
    AS_OF,
    EVENING,
    EVIL,
    TARGET,
    a_report,
    forecasts,
    open_record,
    scored,
    settled_record,
)
from tests.pipeline.report.test_output_tables import a_far_report

SCHEMAS = PROJECT / "docs" / "schemas"


def valid(text: str) -> dict[str, Any]:
    """Return a document, after checking it against the committed schema of its name."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    document: dict[str, Any] = json.loads(text, parse_constant=refuse)
    schema = json.loads((SCHEMAS / f"{document['document']}.schema.json").read_text("utf-8"))
    Draft202012Validator(schema, format_checker=FormatChecker()).validate(document)
    return document


@pytest.fixture
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw no page: it takes seconds, and the documents do not come from it."""
    monkeypatch.setattr(files, "render", lambda report: "")


def test_the_committed_schemas_are_those_of_the_models_and_valid_themselves() -> None:
    assert {path.name for path in SCHEMAS.iterdir()} == {f"{name}.schema.json" for name in DOCUMENTS}
    for name in DOCUMENTS:
        text = (SCHEMAS / f"{name}.schema.json").read_text("utf-8")
        assert text == make_schema(name), "run `make schemas`"
        Draft202012Validator.check_schema(json.loads(text))
        assert json.loads(text)["properties"]["document"]["const"] == name


def test_the_documentation_names_every_document() -> None:
    page = (PROJECT / "docs" / "json.md").read_text("utf-8")
    assert [name for name in DOCUMENTS if f"schemas/{name}.schema.json" not in page] == []


def test_latest_json_holds_what_latest_csv_holds(tmp_path: Path, no_page: None) -> None:
    paths = write(a_report("^GSPC", "^IXIC", "BRK-B"), tmp_path)
    latest = valid(paths.latest_json.read_text("utf-8"))
    table = pd.read_csv(paths.latest_csv, keep_default_na=False)
    assert [row["symbol"] for row in latest["forecasts"]] == table["symbol"].tolist()
    for name in ("p_up", "p_low", "p_high", "baseline_p_up"):
        assert [round(row[name], 6) for row in latest["forecasts"]] == table[name].tolist()
    for name in ("direction", "model_version", "target_session", "as_of", "issued_at"):
        assert [row[name] for row in latest["forecasts"]] == table[name].tolist()
    assert latest["target_session"] == "2019-01-02"
    assert latest["verdicts"][0]["conclusion"] == "no edge found"


def test_equal_reports_give_equal_documents(tmp_path: Path, no_page: None) -> None:
    names = ("latest.json", "record.json")
    first, again = (
        [(write(a_report(), tmp_path / place).latest_csv.with_name(name)).read_bytes() for name in names]
        for place in ("a", "b")
    )
    assert first == again


def test_the_documents_never_go_back_in_time(tmp_path: Path, no_page: None) -> None:
    later = forecasts("^GSPC", as_of=TARGET, target_session=pd.Timestamp("2019-01-03"))
    rows = pd.concat([open_record(forecasts("^GSPC")), open_record(later)])
    newest = a_report("^GSPC", forecasts=later, as_of=TARGET, target_session=pd.Timestamp("2019-01-03"))
    write(newest, tmp_path)
    paths = write(a_report("^GSPC", record=rows), tmp_path)
    assert valid(paths.latest_json.read_text())["target_session"] == "2019-01-03"
    assert valid(paths.record_json.read_text())["as_of"] == "2019-01-02"


def test_a_number_that_is_not_defined_is_null() -> None:
    """AUC of one class is NaN, and so is the saving of a challenger without a session."""
    nothing = Comparison(0, 0, np.nan, np.nan, np.nan, np.nan, 1.0, 1.0)
    report = a_report(
        record=settled_record("live"),
        live_scores=scored("live"),
        challengers=[Standing("retrain", "gru-2", AS_OF, nothing, Decision("", "it waits"))],
        decay=[Decay(MAIN, "too early", 3)],
    )
    record = valid(Record.read(report).to_text())
    (figures,) = record["figures"]
    auc = next(score for score in figures["scores"] if score["metric"] == "auc")
    assert (auc["value"], auc["n"]) == (None, 240)
    assert record["challengers"][0]["saved"] is None
    assert (record["alarm"][0]["floor"], record["alarm"][0]["since"]) == (None, None)


def test_live_and_late_champion_and_challenger_are_never_mixed() -> None:
    live, late, issued = settled_record("live"), settled_record("late"), open_record(forecasts("^GSPC"))
    unlabelled = live.assign(
        outcome=np.where(live.index < 5, np.nan, live["outcome"]),
        void_reason=np.where(live.index < 2, "the exchange was closed", None),
    )
    rival = settled_record("live").assign(role="challenger", model_version="gru-2").head(50)
    report = a_report(
        record=pd.concat([unlabelled, late, issued]),
        live_scores=pd.concat([scored("live"), scored("live, sides taken"), scored("late")]),
        challenger_records=[ChallengerRecord("gru-2", rival, scored("live"))],
    )
    figures = valid(Record.read(report).to_text())["figures"]
    counts = [
        (each["role"], each["model_version"], each["kind"], each["sealed"], each["settled"])
        for each in figures
    ]
    assert counts == [
        ("champion", None, "live", 240, 235),
        ("champion", None, "late", 241, 240),
        ("challenger", "gru-2", "live", 50, 50),
    ]
    names = ("without_label", "void", "open")
    assert [tuple(each[name] for name in names) for each in figures] == [(3, 2, 0), (0, 0, 1), (0, 0, 0)]
    assert [len(each["scores_of_calls"]) > 0 for each in figures] == [True, False, False]
    assert {score["baseline"] for each in figures for score in each["scores"]} == {"base_rate"}


def test_each_output_has_figures_of_its_own() -> None:
    report = a_far_report()
    latest = valid(Latest.read(report, list_rows(report)).to_text())
    assert {row["horizon"] for row in latest["forecasts"]} == {output.horizon for output in report.outputs}
    assert [each["horizon"] for each in latest["verdicts"]] == [output.horizon for output in report.outputs]
    valid(Record.read(report).to_text())


def test_hostile_texts_stay_texts() -> None:
    skipped = pd.DataFrame({"symbol": [EVIL], "reason": ['"}, {"'], "more": [1]})
    report = a_report(skipped=skipped, notes=[EVIL, "\u2028"])
    latest = valid(Latest.read(report, list_rows(report)).to_text())
    assert latest["skipped"] == [{"symbol": EVIL, "reason": '"}, {"'}]
    assert latest["notes"] == [EVIL, "\u2028"]


def test_the_rows_of_the_ledger_are_those_of_the_newest_sessions() -> None:
    record = pd.concat([settled_record("late"), open_record(forecasts("^GSPC"))]).assign(
        median_return=np.nan, median_members=np.nan, median_basis=None, void_reason=None
    )
    found = valid(LedgerRows.read("sample", "9e2b" * 16, record, 2).to_text())
    assert sorted({row["as_of"] for row in found["rows"]}) == ["2018-06-15", "2018-12-31"]
    newest = found["rows"][-1]
    assert (newest["outcome"], newest["settled_at"], newest["median_basis"]) == (None, None, None)
    assert found["rows"][0]["outcome"] in (0.0, 1.0)
    assert valid(LedgerRows.read("sample", "9e2b" * 16, record.head(0), 2).to_text())["rows"] == []


def test_the_other_answers_keep_to_their_schemas() -> None:
    found = pd.DataFrame(
        {"symbol": ["A"], "session": [pd.NaT], "rule": ["r"], "evidence": ["e"], "done": ["d"], "needs_person": [True]}
    )  # fmt: skip
    coverage = pd.DataFrame(
        {"symbol": ["A"], "first": [AS_OF], "last": [TARGET], "bars": [2], "expected": [3], "share": [np.nan]}
    )
    findings: Any = type("Found", (), {})()
    findings.newest, findings.rows, findings.coverage = TARGET, found, coverage
    findings.superseded, findings.immaterial = 3, 1
    part = CheckedPrices.read(findings, "constituents", "XNYS")
    prices = valid(PricesCheck(universe="u", needs_person=True, prices=[part]).to_text())
    assert prices["prices"][0]["coverage"][0]["share"] is None
    assert prices["prices"][0]["findings"][0]["session"] is None
    valid(Doctor(passed=False, checks=[Check(passed=False, what="w", fix="f")]).to_text())
    failure = valid(Failure.read(2, "a.b: wrong\nc.d: wrong too", "nextday.toml", "fix them").to_text())
    assert [each["what"] for each in failure["errors"]] == ["a.b: wrong", "c.d: wrong too"]


def test_times_are_in_utc_and_to_the_microsecond() -> None:
    report = a_report(newest_observed_at=EVENING - timedelta(microseconds=1))
    latest = valid(Latest.read(report, list_rows(report)).to_text())
    assert latest["issued_at"] == "2018-12-31T22:04:11Z"
    assert latest["newest_observed_at"] == "2018-12-31T22:04:10.999999Z"


@pytest.mark.parametrize("what", ["", "  \n"])
def test_an_error_without_a_message_is_an_error_all_the_same(what: str) -> None:
    assert len(valid(Failure.read(1, what).to_text())["errors"]) == 1
