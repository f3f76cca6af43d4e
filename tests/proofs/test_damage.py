"""A sweep: flipped bits and cuts in every file of a workspace that forecasts, scores or the record are read from.

Each is either told by the file's name, with a fix, or changes nothing that is read.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from flows.training.evaluation import load_evaluation, save_evaluation
from models.ensembles.model_files import model_version
from pipeline.backup.wholeness import find_damage
from pipeline.errors import NextdayError
from pipeline.ledger.known_head import ledger_exists
from pipeline.ledger.ledger import Ledger
from pipeline.market.calendar import Calendar
from pipeline.prices.ingest.fetch_log import FetchLog, QuarantineEntry
from pipeline.prices.store import PriceStore
from pipeline.storage.workspace import Workspace
from pipeline.tracking.registry import Registry
from pipeline.tracking.trials import TrialBook
from tests.flows.training.test_evaluation import made_evaluation
from tests.pipeline.ledger.test_sealed_ledger import issue, outcomes
from tests.support.full_workspace import NOW, make_workspace, promote, rows

pytestmark = pytest.mark.proof

PLACES = 9
"""Flipped bits per file, evenly spread from the first byte to the last."""

NOT_READ = ("reports", "cache", "locks")
"""Folders that nothing is computed from."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, xnys: Calendar) -> Path:
    home = make_workspace(tmp_path_factory.mktemp("whole") / "w", xnys)
    promote(home, "b", lambda folder: save_evaluation(folder, made_evaluation()))
    PriceStore(home / "prices" / "sample").append(rows(xnys, [10, 11.5, 12.5, 14]), run="r")
    ledger = Ledger(home / "ledger.sqlite")
    for day in range(1, 3):
        issue(ledger, day, ["AAPL", "MSFT"])
    ledger.settle(outcomes(1, ["AAPL"]), universe="sample")
    path = home / "prices" / "sample.fetches.sqlite"
    path.unlink()  # the one of before is not a fetch log
    held = [QuarantineEntry(name, name, NOW, "jump", "40.08 became 29,736.96") for name in ("ABC", "XYZ")]
    FetchLog(path).record_quarantine("held", held, NOW)
    return home


def read_facts(home: Path) -> dict[str, Any]:
    """Read all that forecasts, scores and reports are made of."""
    workspace = Workspace(home)
    store = PriceStore(workspace.prices("sample"))
    assert ledger_exists(workspace.ledger)
    ledger = Ledger(workspace.ledger, read_only=True)
    registry = Registry(home, model_version)
    champion = registry.champion("sample")
    assert champion is not None
    evaluation = load_evaluation(workspace.evaluation("sample", champion.model_version), champion.evaluation)
    return {
        "prices": store.versions(),
        "version": store.seq(),
        "record": ledger.record("sample"),
        "forecasts": ledger.forecasts("sample"),
        "corrections": ledger.corrections("sample"),
        "head": ledger.head(),
        "quarantine": FetchLog(workspace.fetch_log("sample")).quarantined(),
        "trials": TrialBook(workspace.trials("sample")).read(),
        "champion": vars(champion) | {"directory": ""},
        "models": [vars(model) | {"directory": ""} for model in registry.versions("sample")],
        "scores": evaluation.scores,
        "verdict": evaluation.verdict,
        "test rows": evaluation.test_rows,
        "figures": evaluation.figures,
    }


def is_same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(
        value.equals(other[name]) if isinstance(value, pd.DataFrame) else value == other[name]
        for name, value in one.items()
    )


def damages(content: bytes) -> Iterator[tuple[str, bytes | None]]:
    """Yield damaged contents, each with its name; None: the file is gone."""
    places = {len(content) * number // (PLACES - 1) for number in range(PLACES - 1)} | {len(content) - 1}
    for number, place in enumerate(sorted(places)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << (number * 3 % 8)
        yield f"bit flipped in byte {place}", bytes(flipped)
    for length in (0, len(content) // 2, len(content) - 1):
        yield f"cut to {length} bytes", content[:length]
    yield "removed", None


def is_told(work: Callable[[], object], home: Path, name: str) -> bool:
    """Return whether an error with a fix names the file, its store's, ledger's or model's folder."""
    try:
        work()
    except NextdayError as error:
        named = f"{error.what} {error.where}".replace(str(home), "")
        places = [name, name.rsplit("/", 1)[0], name.rsplit("/", 1)[-1]]
        is_named = any(each in named for each in places) or (name.startswith("ledger") and "ledger" in named)
        return is_named and error.fix != ""
    return False


def sweep(whole: Path, folder: Path) -> Iterator[tuple[str, str, str]]:
    """Yield the file, the damage and what came of it: told, unchanged, or what is wrong."""
    facts = read_facts(whole)
    files = sorted(str(path.relative_to(whole)) for path in whole.rglob("*") if path.is_file())
    for name in files:
        if name.startswith(NOT_READ) or name.endswith(".lock"):
            continue
        content = (whole / name).read_bytes()
        for number, (damage, damaged) in enumerate(damages(content)):
            home = Path(shutil.copytree(whole, folder / f"{number}"))
            (home / name).unlink() if damaged is None else (home / name).write_bytes(damaged)
            yield name, damage, judge(home, name, facts)
            shutil.rmtree(home)


def judge(home: Path, name: str, facts: dict[str, Any]) -> str:
    """Return what came of the damage of a file."""
    if is_told(lambda: read_facts(home), home, name):
        return "told"
    if any(
        each.partition(": ")[0] in (name, name.rsplit("/", 1)[0]) for each in find_damage(home, model_version)
    ):
        return "told by the doctor"
    try:
        return "unchanged" if is_same(facts, read_facts(home)) else "CHANGED AND NOT TOLD"
    except NextdayError as error:
        return f"TOLD WITHOUT ITS NAME: {error}"


def test_every_damage_is_told_by_name_or_changes_nothing(whole: Path, tmp_path: Path) -> None:
    results = list(sweep(whole, tmp_path))
    counts = Counter(result for _, _, result in results)
    print(f"\n{len({name for name, _, _ in results})} files: {dict(counts)}")
    wrong = [each for each in results if each[2] not in ("told", "told by the doctor", "unchanged")]
    assert wrong == []
    assert counts["told"] > counts["unchanged"] > 0
