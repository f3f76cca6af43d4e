"""Build the documentation as a site: `make docs`.

The pages in docs/ link to each other and to files of the repository, so that they can be read there. On the site such a
file is a page of its own: README.md is the home, nextday.toml the reference of the settings. A link or an anchor that
leads nowhere, and a page without a place in the navigation, end the build.
"""

import json
import posixpath
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from docs.reference import write_commands, write_settings

PROJECT: Final = Path(__file__).resolve().parents[1]
"""The checkout."""

_PAGES: Final = {
    "README.md": "index.md",
    "data/README.md": "workspace.md",
    "docs/systemd": "systemd.md",
    "examples/a_month_of_forecasts.ipynb": "notebook.md",
    "nextday.toml": "settings.md",
}
"""The page of what is documented outside of docs/."""

_FOLDERS: Final = {"docs/": "", "data/universes/": "universes/"}
"""Where the files of a folder of the repository are on the site."""

_LINK: Final = re.compile(r"(?<=\]\()[^)#:\s]+(?=[)#])")


def collect(folder: Path) -> None:
    """Write the sources of all pages, and the files that they show or offer, into a new folder."""
    left_out = shutil.ignore_patterns("*.py", "zensical.toml", "systemd", "__pycache__")
    shutil.copytree(PROJECT / "docs", folder, ignore=left_out)
    shutil.copytree(PROJECT / "data" / "universes", folder / "universes")
    for page in folder.glob("*.md"):
        page.write_text(link_to_site(page.read_text("utf-8"), f"docs/{page.name}"), "utf-8")
    for name in ("README.md", "data/README.md"):
        text = link_to_site((PROJECT / name).read_text("utf-8"), name)
        (folder / _PAGES[name]).write_text(text, "utf-8")
    (folder / "settings.md").write_text(
        write_settings((PROJECT / "nextday.toml").read_text("utf-8")), "utf-8"
    )
    (folder / "commands.md").write_text(write_commands(), "utf-8")
    (folder / "systemd.md").write_text(_write_units(), "utf-8")
    notebook = json.loads((PROJECT / "examples" / "a_month_of_forecasts.ipynb").read_text("utf-8"))
    (folder / "notebook.md").write_text("\n\n".join(_write_cells(notebook["cells"])) + "\n", "utf-8")


def link_to_site(markdown: str, place: str) -> str:
    """Return a page with its links to files of the repository led to where these are on the site.

    Args:
        markdown: The page.
        place: Its path in the repository.
    """

    def lead(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(place), link[0]))
        if target in _PAGES:
            return _PAGES[target]
        for folder, there in _FOLDERS.items():
            if target.startswith(folder):
                return there + target.removeprefix(folder)
        return link[0]  # the build names it

    return _LINK.sub(lead, markdown)


def _write_units() -> str:
    parts = ["# systemd units", "How to install them: [operations.md](operations.md)."]
    for path in sorted((PROJECT / "docs" / "systemd").iterdir()):
        parts += [f"## {path.name}", f"```ini\n{path.read_text('utf-8').rstrip()}\n```"]
    return "\n\n".join(parts) + "\n"


def _write_cells(cells: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the cells of a notebook and what they show as Markdown."""
    for cell in cells:
        text = "".join(cell["source"])
        yield text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```"
        for output in cell.get("outputs", []):
            data = {form: "".join(lines) for form, lines in output.get("data", {}).items()}
            if shown := data.get("text/html") or data.get("image/svg+xml"):
                # Empty lines would end the HTML.
                html = re.sub(r"\n\s*\n", "\n", shown[shown.index("<") :])
                yield f'<div style="max-width: 40rem">{html}</div>'
            else:
                plain = "".join(output.get("text", "")) or data.get("text/plain", "")
                yield f"```text\n{plain.strip()}\n```"


def find_unlisted(folder: Path) -> list[str]:
    """Return the pages of a folder that have no place in the navigation."""
    nav = tomllib.loads((PROJECT / "docs" / "zensical.toml").read_text("utf-8"))["project"]["nav"]
    return sorted({path.relative_to(folder).as_posix() for path in folder.rglob("*.md")} - set(_listed(nav)))


def _listed(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [page for each in (nav.values() if isinstance(nav, dict) else nav) for page in _listed(each)]


def build(folder: Path) -> Path:
    """Build the site in a folder, whose former content goes, and return its home page.

    Raises:
        SystemExit: a page is in no group of the navigation, or the build has a warning, which it has printed.
    """
    shutil.rmtree(folder, ignore_errors=True)
    collect(folder / "docs")
    if unlisted := find_unlisted(folder / "docs"):
        raise SystemExit(f"Give these pages a place in nav of docs/zensical.toml: {', '.join(unlisted)}")
    return render(folder)


def render(folder: Path) -> Path:
    """Turn the collected pages of a folder into the site beside them, and return its home page.

    Raises:
        SystemExit: the build has a warning, such as a link or an anchor that leads nowhere, which it has printed.
    """
    shutil.copy(PROJECT / "docs" / "zensical.toml", folder)
    done = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict"],
        cwd=folder, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    if done.returncode:
        # A strict build names what is wrong, and then shows where in its own code it ends.
        print(re.split(r"^Traceback.*strict", done.stdout, flags=re.M | re.S)[0], file=sys.stderr)
        raise SystemExit("The site is not built: fix what is named above")
    return folder / "site" / "index.html"


if __name__ == "__main__":
    print(build(PROJECT / "build"))
