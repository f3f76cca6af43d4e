"""The documentation as a site: complete, without a link that leads nowhere, and readable without a network."""

import re
import time
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from docs.build_site import build, collect, find_unlisted, link_to_site, render
from docs.reference import describe_type, read_settings, write_commands, write_settings
from flows.cli.app import app
from pipeline.config import Config
from tests.conftest import PROJECT, skip_unless
from tests.support.chromium import Tab, open_tab

SETTINGS = (PROJECT / "nextday.toml").read_text("utf-8")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    skip_unless(find_spec("zensical") is not None, "the site: zensical (the extra docs)")
    return build(tmp_path_factory.mktemp("site") / "build").parent


def test_the_reference_has_every_setting_with_type_default_and_description() -> None:
    page = write_settings(SETTINGS)
    described = {
        (section.name, key.name): key.text for section in read_settings(SETTINGS) for key in section.keys
    }
    known = [(name, key) for name, section in Config() for key in type(section).model_fields]
    assert known == [*described]
    assert [setting for setting, text in described.items() if not text] == []
    values = tomllib.loads(SETTINGS)
    for section, key in known:
        (entry,) = re.findall(rf"^### `{key}` {{ #{section}-{key} }}\n\n(.*?)\n\n(.+?)$", page, re.M)
        kind, _, default = entry[0].partition(". Default: ")
        assert kind
        assert tomllib.loads(f"x = {default.strip('`')}")["x"] == values[section][key]


@pytest.mark.parametrize(
    ("section", "key", "kind"),
    [
        ("universe", "symbols", "array, each string"),
        ("prices", "start", "date"),
        ("prices", "requests_per_second", "float, above 0, at most 10"),
        ("context", "lag", "string or table, each value string"),
        ("labels", "horizons", "array, each integer, at least 1, at most 250"),
        ("labels", "dead_zone", "array of 2: float, above -1, at most 0; float, at least 0, below 1"),
        ("training", "refit", "Boolean"),
        ("training", "mode", 'one of `"windowed"`, `"sequence"`'),
        ("evaluation", "test_end", "date or an empty string"),
        ("notify", "to", "array, at most 20 items, each string"),
    ],
)
def test_the_type_of_a_setting_is_told_in_words(section: str, key: str, kind: str) -> None:
    schema = type(getattr(Config(), section)).model_json_schema()
    assert describe_type(schema["properties"][key]) == kind


def test_a_comment_becomes_a_paragraph_or_a_list_of_values() -> None:
    text = """# Head
# of the file.

[part]                # about <it>, see docs/prices.md
one = "a # b"         # first line
                      # and second, `<kept>`
two = [1]             # usual
                      # a: the one
                      # b | c: the other,
                      # continued
"""
    head, part = read_settings(text)
    assert head.lines == ["Head", "of the file."]
    assert part.text == "about &lt;it&gt;, see [prices.md](prices.md)".capitalize()
    one, two = part.keys
    assert (one.value, one.text) == ('"a # b"', "First line and second, `<kept>`")
    assert two.text == "Usual\n\n- `a`: the one\n- `b | c`: the other, continued"


def test_the_reference_has_every_command_with_all_it_takes() -> None:
    parts = re.split(r"^## ", write_commands(), flags=re.M)
    sections = {part.partition("\n")[0]: part for part in parts}

    def walk(command: Any, path: str) -> None:
        place = path if path != "nextday" else "Options of every command"
        assert path == "nextday" or command.help.splitlines()[0][:20] in sections[place]
        for parameter in command.params:
            name = (
                parameter.opts[0]
                if parameter.param_type_name == "option"
                else parameter.metavar or parameter.name
            )
            item = re.search(rf"^- `.*{re.escape(name)}.*`: (.*)", sections[place], re.M | re.I)
            assert "--help" in parameter.opts or (item and item[1]), (path, name)
        for name, child in getattr(command, "commands", {}).items():
            walk(child, f"{path} {name}")

    walk(get_command(app), "nextday")
    assert len(sections) > 40
    assert "- `--last <int range>`: How many bars. Default: 20; x&gt;=1.\n" in sections["nextday prices show"]
    assert "no new trial starts. Default: none; x&gt;=0.\n" in sections["nextday search"]
    assert "- `symbol <str>`: One symbol of the universe. Required.\n" in sections["nextday prices show"]


def test_a_link_of_the_repository_leads_to_its_page_on_the_site() -> None:
    text = "[a](../nextday.toml), [b](prices.md#volume), [c](https://x.example/prices.md), ![d](report.svg), [e](#here)"
    assert link_to_site(text, "docs/prices.md") == text.replace("../nextday.toml", "settings.md")
    text = "[a](docs/prices.md#volume), [b](data/README.md), [c](data/universes/dax40.csv), [d](docs/systemd)"
    moved = "[a](prices.md#volume), [b](workspace.md), [c](universes/dax40.csv), [d](systemd.md)"
    assert link_to_site(text, "README.md") == moved


def test_a_page_without_a_place_in_the_navigation_is_named(tmp_path: Path) -> None:
    (tmp_path / "new.md").write_text("# New\n")
    assert find_unlisted(tmp_path) == ["new.md"]


@pytest.mark.slow
def test_a_link_that_leads_nowhere_ends_the_build(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], site: Path
) -> None:
    collect(tmp_path / "docs")
    with (tmp_path / "docs" / "files.md").open("a") as page:
        page.write("\n[a](no_such_page.md) and [b](prices.md#no-such-heading)\n")
    with pytest.raises(SystemExit, match="not built"):
        render(tmp_path)
    said = re.sub(r"\x1b\[[0-9;]*m", "", "".join(capfd.readouterr()))
    assert "no_such_page.md" in said
    assert "no-such-heading" in said
    assert "Traceback" not in said


@pytest.mark.slow
def test_no_page_asks_for_anything_outside(site: Path) -> None:
    pages = sorted(site.glob("*.html"))
    assert len(pages) > 30
    asked = re.compile(
        r"<(?:script|img|iframe|source)[^>]* src=\"?(?:https?:)?//|<link[^>]* href=\"?(?:https?:)?//"
    )
    assert [page.name for page in pages if asked.search(page.read_text("utf-8"))] == []


@pytest.fixture(scope="module")
def tab() -> Iterator[Tab]:
    with open_tab() as opened:
        yield opened


FOUND = "document.activeElement.shadowRoot?.textContent ?? ''"


@pytest.mark.slow
def test_the_search_works_on_pages_opened_from_the_folder(site: Path, tab: Tab) -> None:
    tab.open((site / "index.html").as_uri())
    tab.ask("document.querySelector('.md-search__button').click()")
    tab.call("Input.insertText", text="embargo")
    end = time.monotonic() + 30
    while "How history is split" not in tab.ask(FOUND):
        assert time.monotonic() < end, tab.ask(FOUND)
        time.sleep(0.1)
    addresses = [event["request"]["url"] for event in tab.happened("Network.requestWillBeSent")]
    assert [address for address in addresses if not address.startswith(("file:", "data:"))] == []
    assert tab.happened("Runtime.exceptionThrown") == []
    assert [event for event in tab.happened("Log.entryAdded") if event["entry"]["level"] == "error"] == []


@pytest.mark.slow
@pytest.mark.parametrize("page", ["index", "settings", "commands", "operations", "architecture"])
def test_a_phone_scrolls_no_page_sideways(site: Path, tab: Tab, page: str) -> None:
    tab.open((site / f"{page}.html").as_uri(), width=360)
    assert tab.ask("document.documentElement.scrollWidth") == 360
