"""Execute the notebook of examples/ in an empty folder and write it again with its outputs: `make notebook`."""

import os
import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import nbformat
from nbclient import NotebookClient

__all__ = ["NOTEBOOK", "execute", "list_outputs"]

NOTEBOOK: Final = Path(__file__).parents[1] / "examples" / "a_month_of_forecasts.ipynb"

_FOLDER: Final = "/home/ada/forecasts"
"""What stands in the outputs for the folder in which the notebook was executed."""

_FIRST: Final = (
    "import matplotlib as mpl, matplotlib_inline.backend_inline as inline\n"
    "inline.set_matplotlib_formats('svg')\n"
    "mpl.rcParams['svg.hashsalt'] = 'nextday'\n"
)
"""Figures as SVG, which is text."""


def execute(source: Path) -> nbformat.NotebookNode:
    """Return the notebook with new outputs, free of times, paths and other traces of the machine."""
    notebook = nbformat.read(source, as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(_FIRST))
    place = Path(sys.executable).parent
    with TemporaryDirectory() as folder:
        before = os.environ["PATH"]
        os.environ["PATH"] = f"{place}{os.pathsep}{before}"
        try:
            NotebookClient(
                notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": folder}}
            ).execute()
        finally:
            os.environ["PATH"] = before
        del notebook.cells[0]
        for number, cell in enumerate(notebook.cells, start=1):
            cell["id"] = f"cell-{number}"
            cell.metadata = {}
            if cell.cell_type == "code":
                cell.execution_count = None
                cell.outputs = [_clean(output, folder) for output in cell.outputs]
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook


def list_outputs(notebook: nbformat.NotebookNode) -> list[str]:
    """Return the texts that the cells of an executed notebook show, without figures."""
    shown = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            shown.append(output.get("text") or data.get("text/html") or data.get("text/plain") or "")
    return [text for text in shown if "<svg" not in text]


def _clean(output: nbformat.NotebookNode, folder: str) -> nbformat.NotebookNode:
    output.pop("execution_count", None)
    output.get("metadata", {}).clear()
    data = output.get("data", {})
    if "image/svg+xml" in data:
        # Of a figure one form is enough, and matplotlib writes the time into it.
        svg = re.sub(r"<metadata>.*?</metadata>", "", data["image/svg+xml"], flags=re.S)
        output.data = nbformat.from_dict({"image/svg+xml": _strip_lines(svg)})
    elif "text/html" in data:
        output.data = nbformat.from_dict({"text/html": _hide(data["text/html"], folder)})
    elif "text/plain" in data:
        output.data = nbformat.from_dict({"text/plain": _hide(data["text/plain"], folder)})
    if "text" in output:
        output.text = _hide(output.text, folder)
    return output


def _hide(text: str, folder: str) -> str:
    return _strip_lines(text.replace(str(Path(folder).resolve()), _FOLDER).replace(folder, _FOLDER))


def _strip_lines(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.splitlines()) + ("\n" if text.endswith("\n") else "")


if __name__ == "__main__":
    nbformat.write(execute(NOTEBOOK), NOTEBOOK)
    print(NOTEBOOK.relative_to(Path.cwd()) if NOTEBOOK.is_relative_to(Path.cwd()) else NOTEBOOK)
