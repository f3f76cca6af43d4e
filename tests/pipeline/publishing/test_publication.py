"""The published folder: what is in it, what changes the second time, and that verify.py finds every change."""

import ast
import json
import shutil
import sys
from hashlib import sha256
from pathlib import Path

import pandas as pd
import pytest

from pipeline.errors import InputError, LedgerError
from pipeline.ledger.ledger import Ledger
from pipeline.publishing import verify
from pipeline.publishing.pages import hide_places, list_pages
from pipeline.publishing.publication import read_verifier
from tests.pipeline.publishing.made_record import (
    FORECASTS,
    SYMBOLS,
    TAMPERINGS,
    Tampering,
    alter,
    drop_line,
    edit_heads,
    edit_ledger,
    make_ledger,
    move_lines,
    publish_to,
    run_verifier,
)
from tests.pipeline.publishing.made_record import OUTCOMES as OUTCOME_FILE

tamperings = pytest.mark.parametrize("kind", TAMPERINGS, ids=lambda kind: kind.name)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ledger, Path]:
    folder = tmp_path_factory.mktemp("made")
    ledger = make_ledger(folder / "w" / "ledger.sqlite")
    publish_to(folder / "public", ledger)
    return ledger, folder / "public"


@pytest.fixture
def public(made: tuple[Ledger, Path], tmp_path: Path) -> Path:
    """Return a copy to change."""
    return Path(shutil.copytree(made[1], tmp_path / "public"))


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_a_fresh_publication_is_what_was_sealed(made: tuple[Ledger, Path]) -> None:
    ledger, public = made
    said = run_verifier(public)
    assert (said.returncode, said.stderr) == (0, "")
    assert "4 batches, 9 forecasts, 3 outcomes" in said.stdout
    assert "what is published here is what was sealed" in said.stdout
    assert f"head {ledger.head().hash}" in said.stdout
    assert "a second ledger" in said.stdout


@tamperings
def test_the_verifier_finds_every_kind_of_change_and_names_it(public: Path, kind: Tampering) -> None:
    kind.published(public / "sealed")
    said = run_verifier(public)
    assert said.returncode == 1
    assert "THIS IS NOT WHAT WAS SEALED" in said.stdout
    assert kind.words in said.stdout


@tamperings
def test_so_does_the_ledger_itself_and_it_is_not_published(tmp_path: Path, kind: Tampering) -> None:
    ledger = make_ledger(tmp_path / "w" / "ledger.sqlite")
    edit_ledger(ledger.path, *kind.ledger)
    assert not ledger.verify().ok
    with pytest.raises(LedgerError):
        publish_to(tmp_path / "public", ledger)
    assert not (tmp_path / "public").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: alter(s / "forecasts.csv", "0.30000000000000004", "0.31"), "row 1 (AAPL, 2018-12-10, 2018-12-11"),
        (lambda s: alter(s / "forecasts.csv", ",1e-07,", ",1e-06,"), "row 2 (BRK-B, 2018-12-10"),
        (lambda s: alter(s / "outcomes.csv", ",1.0,", ",0.0,"), "outcomes.csv, outcome batch 1 (2018-12-11): row 1"),
        (lambda s: drop_line(s / "forecasts.csv", 5), "forecast batch 2 (2018-12-11): row 2 (BRK-B"),
        (lambda s: drop_line(s / "forecasts.csv", 9), "forecast batch 3 (2018-12-12): row 3 (^GSPC"),
        (lambda s: move_lines(s / "forecasts.csv", 1, 4), "forecasts.csv, forecast batch 1 (2018-12-10): row 1 (AAPL"),
        (lambda s: alter(s / "heads.js", '"outcome",1', '"outcome",2'), "verify.html reads other heads"),
        (lambda s: (s / "forecasts" / "000009.js").write_text("x"), "000009.js: it is no part of the chain"),
        (lambda s: (s / FORECASTS).write_text("sealed(os.system('x'));"), "000002.js cannot be read"),
        (lambda s: (s / FORECASTS).write_text("[" * 100_000), "000002.js cannot be read"),
        (lambda s: (s / OUTCOME_FILE).unlink(), "its file outcomes/000001.js was removed"),
    ],
)  # fmt: skip
def test_a_change_of_a_table_or_a_file_is_found(public: Path, change: object, words: str) -> None:
    change(public / "sealed")  # type: ignore[operator]
    said = run_verifier(public)
    assert (said.returncode, said.stderr) == (1, "")
    assert words in said.stdout


def test_an_added_row_of_the_table_is_found(public: Path) -> None:
    path = public / "sealed" / "forecasts.csv"
    path.write_text(path.read_text() + path.read_text().splitlines()[-1] + "\n")
    assert "a row of batch 3 was added" in run_verifier(public).stdout


def test_a_cut_end_is_found_by_a_head_that_was_noted(public: Path, made: tuple[Ledger, Path]) -> None:
    def cut(lines: list[list[str]]) -> None:
        assert lines.pop()[:2] == ["forecast", "3"]

    edit_heads(public / "sealed", cut)
    (public / "sealed" / "forecasts" / "000003.js").unlink()
    for _ in SYMBOLS:
        drop_line(public / "sealed" / "forecasts.csv", -1)
    assert run_verifier(public).returncode == 0  # the chain alone cannot show it, and says so
    said = run_verifier(public, "--head", made[0].head().hash)
    assert said.returncode == 1
    assert "its end cut off" in said.stdout
    earlier = verify.read_batches(public / "sealed")[1].ledger_head
    assert "after outcome batch 1" in run_verifier(public, "--head", earlier).stdout


def test_every_head_of_a_report_is_found(made: tuple[Ledger, Path]) -> None:
    """Whatever two batches were the last ones when it was noted."""
    batches = verify.read_batches(made[1] / "sealed")
    hashes = {(batch.chain, batch.number): batch.hash for batch in batches}
    odd = verify.join_heads(hashes["forecast", 3], verify.GENESIS, verify.GENESIS)
    assert verify.find_head(odd, batches)
    assert not verify.find_head("0" * 64, batches)


def test_a_row_that_only_says_that_it_is_live_is_found(public: Path) -> None:
    """Sealed as it is: the chain is whole, and its times contradict it."""
    sealed = public / "sealed"
    path = sealed / "forecasts" / "000003.js"
    alter(path, '"2018-12-13T14:30:00.000000+00:00"', '"2018-12-12T20:00:00.000000+00:00"')
    text = verify.Sealed(path.read_text())
    rows = verify.read_call(path.read_text(), "sealed")
    digests = ",".join(f"'{sha256(row.encode()).hexdigest()[:8]}'" for row in text.texts)
    hash_ = sha256(text.whole.encode()).hexdigest()
    body = path.read_text().rsplit("\n],", 1)[0]
    path.write_text(f"{body}\n],[{digests}],'{hash_}');\n")

    def reseal(lines: list[list[str]]) -> None:
        ends = {line[0]: line[6] for line in lines[:-1]}
        lines[-1][6:] = [hash_, verify.join_heads(hash_, ends["outcome"], verify.GENESIS)]

    edit_heads(sealed, reseal)
    (sealed / "forecasts.csv").unlink()
    assert rows[3] != hash_
    assert "row 1 (AAPL, 2018-12-12, 2018-12-13, 1) is marked live" in run_verifier(public).stdout


def test_a_folder_without_a_record_cannot_be_checked(tmp_path: Path) -> None:
    (tmp_path / "verify.py").write_bytes(read_verifier("verify.py"))
    said = run_verifier(tmp_path)
    assert said.returncode == 2
    assert "cannot be read" in said.stderr
    assert "heads.csv" in said.stderr


def test_the_verifier_is_one_file_for_python_3_9_and_its_standard_library() -> None:
    tree = ast.parse(read_verifier("verify.py"), feature_version=(3, 9))
    modules = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [each.name for each in node.names] if isinstance(node, ast.Import)
            else [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        )
    }  # fmt: skip
    assert modules <= sys.stdlib_module_names
    assert b"strict=" not in read_verifier("verify.py")  # zip of 3.10


def test_the_second_time_only_what_changed_is_written(tmp_path: Path) -> None:
    ledger = make_ledger(tmp_path / "w" / "ledger.sqlite")
    public = tmp_path / "public"
    first = publish_to(public, ledger)
    before = contents(public)
    assert first.written == len(before) - 1  # the list of files is not counted
    again = publish_to(public, ledger)
    assert (again.written, again.removed) == (0, 0)
    assert contents(public) == before
    page = ledger.path.parent / "reports" / "sample" / "2018-12-11" / "report.html"
    page.parent.mkdir()
    page.write_text("new")
    alter(public / "sealed" / FORECASTS, "0.52", "0.53")  # it is nextday's own file: it is put right
    assert publish_to(public, ledger).written == 2
    assert run_verifier(public).returncode == 0
    page.unlink()
    page.parent.rmdir()
    assert publish_to(public, ledger).removed == 1
    assert not (public / "2018-12-11").exists()
    assert {name: content for name, (content, _) in contents(public).items()} == {
        name: content for name, (content, _) in before.items()
    }


def test_files_of_others_are_neither_overwritten_nor_removed(tmp_path: Path) -> None:
    ledger, public = make_ledger(tmp_path / "w" / "ledger.sqlite"), tmp_path / "public"
    public.mkdir()
    (public / "CNAME").write_text("record.example")
    publish_to(public, ledger)
    publish_to(public, ledger)
    assert (public / "CNAME").read_text() == "record.example"
    other = tmp_path / "other"
    (other / "sealed").mkdir(parents=True)
    for name in ("index.html", "sealed/heads.csv"):
        (other / name).write_text("mine")
    before = contents(other)
    with pytest.raises(InputError, match=r"did not write: index\.html, sealed/heads\.csv"):
        publish_to(other, ledger)
    assert contents(other) == before


def test_a_list_of_files_that_names_others_removes_nothing_outside(tmp_path: Path) -> None:
    ledger, public = make_ledger(tmp_path / "w" / "ledger.sqlite"), tmp_path / "public"
    publish_to(public, ledger)
    secret, inside = tmp_path / "secret", public / "linked"
    secret.mkdir()
    (secret / "kept.txt").write_text("kept")
    inside.symlink_to(secret)
    facts = json.loads((public / "published.json").read_text())
    facts["files"] |= {"../secret/kept.txt": "", str(secret / "kept.txt"): "", "linked/kept.txt": "", "": ""}
    (public / "published.json").write_text(json.dumps(facts))
    publish_to(public, ledger)
    assert (secret / "kept.txt").read_text() == "kept"


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    ledger, public = make_ledger(tmp_path / "w" / "ledger.sqlite"), tmp_path / "public"
    public.mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (public / "sealed").symlink_to(elsewhere)
    with pytest.raises(InputError, match="did not write"):
        publish_to(public, ledger)
    assert not [*elsewhere.iterdir()]


@pytest.mark.parametrize("place", ["w", "w/public", "."])
def test_the_workspace_is_never_published_into_or_with(tmp_path: Path, place: str) -> None:
    ledger = make_ledger(tmp_path / "w" / "ledger.sqlite")
    before = contents(tmp_path / "w")
    with pytest.raises(InputError, match="must lie apart"):
        publish_to((tmp_path / place).resolve(), ledger)
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="not a folder"):
        publish_to(tmp_path / "file", ledger)
    assert {*contents(tmp_path / "w")} >= {*before}
    assert not (tmp_path / "w" / "published.json").exists()


def test_batches_of_other_universes_keep_their_place_and_tell_nothing(tmp_path: Path) -> None:
    ledger = make_ledger(tmp_path / "w" / "ledger.sqlite")
    make_ledger(ledger.path, universe="secret-fund")
    publish_to(tmp_path / "public", ledger)
    said = run_verifier(tmp_path / "public")
    assert said.returncode == 0, said.stdout
    assert "8 batches, 9 forecasts, 3 outcomes; 4 batches of other universes" in said.stdout
    for name, (content, _) in contents(tmp_path / "public").items():
        assert b"secret-fund" not in content, name
    publish_to(tmp_path / "all", ledger, everything=True)
    assert "8 batches, 18 forecasts, 6 outcomes" in run_verifier(tmp_path / "all").stdout


def test_parquet_holds_the_rows_of_the_csv(made: tuple[Ledger, Path]) -> None:
    for name in ("forecasts", "outcomes"):
        table = pd.read_parquet(made[1] / "sealed" / f"{name}.parquet")
        text = pd.read_csv(made[1] / "sealed" / f"{name}.csv")
        assert [*table.columns] == [*text.columns]
        numbers = table.select_dtypes("number")
        pd.testing.assert_frame_equal(numbers, text[[*numbers.columns]], check_dtype=False)
        assert table["symbol"].tolist() == text["symbol"].tolist()
        assert table["as_of"].dt.strftime("%Y-%m-%d").tolist() == text["as_of"].tolist()


def test_no_page_names_a_place_of_this_machine(tmp_path: Path) -> None:
    home, pages = tmp_path / "w & x", tmp_path / "w & x" / "reports" / "u"
    pages.mkdir(parents=True)
    remark = f"where: {home}/ledger.sqlite, {home}-other, {str(home).replace('&', '&amp;')}/x, {tmp_path}"
    (pages / "report.html").write_text(remark)
    (pages / "latest.json").write_text(json.dumps({"notes": [remark]}))
    for name in (".hidden.html", "tracked.json", "model.keras"):
        (pages / name).write_text(remark)
    (pages / "passwd.txt").symlink_to("/etc/passwd")
    names = [*list_pages(pages)]
    assert names == ["latest.json", "report.html"]
    for name in names:
        text = hide_places(
            name, (pages / name).read_bytes(), {home: "(workspace)", tmp_path: "~", Path("/"): "x"}
        )
        assert b"(workspace)/ledger.sqlite, ~/w & x-other, " in text.replace(b"&amp;", b"&")
        assert str(tmp_path).encode() not in text
    assert hide_places("a.parquet", str(home).encode(), {home: "x"}) == str(home).encode()
    assert hide_places("a.csv", b"\xff,/", {home: "x"}) == b"\xff,/"


def test_a_link_to_another_folder_of_the_reports_is_published_as_a_folder(tmp_path: Path) -> None:
    """`backtest` leads to the newest backtest; a link to elsewhere is not followed."""
    reports, elsewhere = tmp_path / "u", tmp_path / "elsewhere"
    for folder in (reports / "backtests" / "one", elsewhere):
        folder.mkdir(parents=True)
        (folder / "report.html").write_text("x")
    (reports / "backtest").symlink_to(Path("backtests") / "one")
    (reports / "other").symlink_to(elsewhere)
    (reports / "backtests" / "linked").symlink_to(elsewhere)
    assert [*list_pages(reports)] == ["backtests/one/report.html", "backtest/report.html"]
    assert [*list_pages(tmp_path / "absent")] == []


def test_the_index_links_to_the_page_that_checks_it(made: tuple[Ledger, Path]) -> None:
    assert '<a href="verify.html">' in (made[1] / "index.html").read_text()


def test_nothing_published_names_this_machine(made: tuple[Ledger, Path]) -> None:
    ledger, public = made
    for name, (content, _) in contents(public).items():
        for place in (ledger.path.parent, public, Path.home(), Path.cwd()):
            assert str(place).encode() not in content, name
