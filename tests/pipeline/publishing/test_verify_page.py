"""verify.html in a headless Chromium: it recomputes the chain from a disk, finds every change, and runs nothing."""

import shutil
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from pipeline.ledger import hash_chain, known_head
from pipeline.ledger.ledger import Ledger
from tests.pipeline.publishing.made_record import (
    SYMBOLS,
    TAMPERINGS,
    Tampering,
    make_ledger,
    publish_to,
    run_verifier,
)
from tests.support.chromium import Tab, open_tab

pytestmark = pytest.mark.slow

HOSTILE = "<img src=x onerror=\"document.title='caught'\">"


@pytest.fixture(scope="module")
def tab() -> Iterator[Tab]:
    with open_tab() as opened:
        yield opened


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ledger, Path]:
    folder = tmp_path_factory.mktemp("page")
    ledger = make_ledger(folder / "w" / "ledger.sqlite")
    publish_to(folder / "public", ledger)
    return ledger, folder / "public"


def judge(tab: Tab, public: Path, **screen: int | bool) -> str:
    """Open the page from the disk and return its verdict, once it has one."""
    tab.open((public / "verify.html").as_uri(), **screen)  # type: ignore[arg-type]
    end = time.monotonic() + 30
    while not (state := tab.ask("document.documentElement.dataset.state")):
        assert time.monotonic() < end, tab.ask("document.body.innerText")
        time.sleep(0.05)
    verdict = str(tab.ask("document.querySelector('#verdict').textContent"))
    assert (state == "sealed") == verdict.startswith("What is shown here is what was sealed")
    assert tab.ask("document.documentElement.dataset.error") is None
    return verdict


def test_a_fresh_publication_is_what_was_sealed(tab: Tab, made: tuple[Ledger, Path]) -> None:
    ledger, public = made
    assert "4 batches, 9 forecasts, 3 outcomes" in judge(tab, public)
    assert tab.ask("document.querySelector('#newest').textContent") == ledger.head().hash
    requested = [event["request"]["url"] for event in tab.happened("Network.requestWillBeSent")]
    assert requested
    assert [url for url in requested if not url.startswith(public.as_uri())] == []
    assert tab.happened("Log.entryAdded") + tab.happened("Runtime.exceptionThrown") == []


@pytest.mark.parametrize("kind", TAMPERINGS, ids=lambda kind: kind.name)
def test_every_kind_of_change_is_found_and_named(
    tab: Tab, made: tuple[Ledger, Path], tmp_path: Path, kind: Tampering
) -> None:
    public = Path(shutil.copytree(made[1], tmp_path / "public"))
    kind.published(public / "sealed")
    verdict = judge(tab, public)
    assert verdict.startswith("This is not what was sealed")
    assert kind.words in verdict


def test_a_missing_file_is_named(tab: Tab, made: tuple[Ledger, Path], tmp_path: Path) -> None:
    public = Path(shutil.copytree(made[1], tmp_path / "public"))
    (public / "sealed" / "forecasts" / "000003.js").unlink()
    assert "its file sealed/forecasts/000003.js was removed" in judge(tab, public)
    (public / "sealed" / "heads.js").unlink()
    assert "sealed/heads.js was removed" in judge(tab, public)


def test_a_head_noted_elsewhere_is_compared(tab: Tab, made: tuple[Ledger, Path]) -> None:
    ledger, public = made
    judge(tab, public)
    for head, words in ((ledger.head().hash, "after forecast batch 3"), ("0" * 64, "rewritten, or its end")):
        tab.ask(f"document.querySelector('#head').elements.head.value = '{head}'")
        tab.ask("document.querySelector('#head button').click()")
        assert words in tab.ask("document.querySelector('#answer').textContent")


def test_the_rows_of_a_batch_are_shown(tab: Tab, made: tuple[Ledger, Path]) -> None:
    judge(tab, made[1])
    tab.ask("document.querySelector('#batches button').click()")
    assert wait_for_rows(tab) == len(SYMBOLS)
    assert "BRK-B" in tab.ask("document.querySelector('#rows').textContent")


def wait_for_rows(tab: Tab) -> int:
    end = time.monotonic() + 20
    while not (rows := tab.ask("document.querySelectorAll('#rows tbody tr').length")):
        assert time.monotonic() < end
        time.sleep(0.05)
    return int(rows)


def test_a_hostile_name_is_text(tab: Tab, tmp_path: Path) -> None:
    """The ledger takes no such symbol; a forged one is sealed here without its checks."""
    ledger = make_ledger(tmp_path / "w" / "ledger.sqlite")
    with hash_chain.opened(ledger.path) as db:
        last = dict(db.execute("SELECT * FROM forecasts ORDER BY batch DESC LIMIT 1").fetchone())
        db.execute("BEGIN IMMEDIATE")
        row = {name: last[name] for name in hash_chain.FORECAST.columns}
        rows = [row | {"symbol": each} for each in (HOSTILE, "</script>'\\", "=1+1", "\u2028\u202e")]
        hash_chain.append(db, hash_chain.FORECAST, rows)
        head = hash_chain.find_head(db)
        db.execute("COMMIT")
    known_head.note(ledger.path, head)
    publish_to(tmp_path / "public", ledger)
    assert run_verifier(tmp_path / "public").returncode == 0
    assert "13 forecasts" in judge(tab, tmp_path / "public")
    tab.ask("document.querySelector('#batches button').click()")
    assert wait_for_rows(tab) == 4
    assert HOSTILE in tab.ask("document.querySelector('#rows').textContent")
    assert tab.ask("document.images.length") == 0
    assert tab.ask("document.title") == "Is this what was sealed?"


@pytest.mark.parametrize("dark", [False, True])
def test_the_page_fits_a_phone(tab: Tab, made: tuple[Ledger, Path], dark: bool) -> None:
    judge(tab, made[1], width=360, dark=dark)
    assert tab.ask("document.documentElement.scrollWidth") <= 360
    shades = tab.ask(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    assert shades == (
        ["rgb(240, 246, 252)", "rgb(13, 17, 23)"] if dark else ["rgb(31, 35, 40)", "rgb(255, 255, 255)"]
    )


def test_its_sha256_is_the_one_of_the_standard(tab: Tab, made: tuple[Ledger, Path]) -> None:
    """Lengths around the ends of blocks, where padding goes wrong; the first two are the examples of FIPS 180-4."""
    judge(tab, made[1])
    texts = ["abc", "", *("a" * size for size in range(53, 67)), "é🚀" * 40, "x" * 100_000]
    hashes = tab.ask(f"{texts!r}.map(sha256)")
    assert hashes[0] == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert hashes == [sha256(text.encode()).hexdigest() for text in texts]
