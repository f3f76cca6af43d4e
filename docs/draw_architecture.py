"""Draw docs/architecture.svg from the code: a box per folder in its layer, an arrow per import between folders.

The layers are those of the import contracts in pyproject.toml, the arrows are read from the import statements with
`ast`. Run `make architecture`; tests/project/test_architecture.py checks that the committed picture is up to date.
"""

import ast
import tomllib
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Final

PROJECT: Final = Path(__file__).resolve().parents[1]
"""The checkout."""
PICTURE: Final = PROJECT / "docs" / "architecture.svg"
"""The committed picture."""

Edges = dict[str, set[str]]

_WIDTH: Final = 1000
_PITCH: Final = 66
"""Distance between two layers."""
_HEIGHT: Final = 36
"""Height of a box."""
_HEAD: Final = 44
"""Height of a package's title."""

_STYLE: Final = """
svg { --page: #ffffff; --frame: #f6f8fa; --box: #ffffff; --ink: #1f2328; --dim: #59636e; --line: #d1d9e0;
  --flows: #0969da; --pipeline: #1a7f37; --models: #9a6700; }
@media (prefers-color-scheme: dark) { svg { --page: #0d1117; --frame: #151b23; --box: #212830; --ink: #f0f6fc;
  --dim: #9198a1; --line: #3d444d; --flows: #4493f8; --pipeline: #3fb950; --models: #d29922; } }
text { font: 13px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: var(--ink); }
.title { font-size: 17px; font-weight: 600; } .note, .sub { font-size: 12px; fill: var(--dim); }
.name { text-anchor: middle; font-weight: 600; } .file { font-weight: 400; }
.sub { text-anchor: middle; font-size: 10.5px; }
.frame { fill: var(--frame); stroke: var(--line); } .box { fill: var(--box); stroke-width: 1.5; }
.single { stroke-dasharray: 4 3; stroke-width: 1; } .arrow { fill: none; stroke-width: 1.4; }
.implied { opacity: .45; stroke-width: 1; } .wide { stroke-width: 3; }
.flows { stroke: var(--flows); } .pipeline { stroke: var(--pipeline); } .models { stroke: var(--models); }
.tip { stroke: none; } .tip.flows { fill: var(--flows); } .tip.pipeline { fill: var(--pipeline); }
.tip.models { fill: var(--models); }
"""


@dataclass
class Box:
    """A folder or a file of a package, in its layer; `x` and `y` are the middle of its top edge."""

    name: str
    layer: int
    parts: list[str]
    is_file: bool
    x: float = 0.0
    y: float = 0.0

    @property
    def width(self) -> float:
        """Return a width that holds the name and the folders below it."""
        return max(7.7 * len(self.name), 5.8 * len(" ".join(self.parts)), 36.0) + 18


@dataclass
class Package:
    """A top-level package as it is drawn."""

    name: str
    left: float
    top: float
    width: float
    layers: list[list[Box]]
    arrows: Edges

    @property
    def height(self) -> float:
        """Return the height of its frame."""
        return _HEAD + len(self.layers) * _PITCH - (_PITCH - _HEIGHT) + 18

    @property
    def boxes(self) -> dict[str, Box]:
        """Return all boxes by name."""
        return {box.name: box for layer in self.layers for box in layer}


def read_layers(package: str) -> list[list[str]]:
    """Return the layers of a package from its import contract, the highest first."""
    contracts = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = (each["layers"] for each in contracts if each.get("containers") == [package])
    return [layer.replace(" ", "").split("|") for layer in layers]


def read_imports(package: str) -> Edges:
    """Return which children of a package each of its children imports."""
    found: Edges = {}
    for path in sorted((PROJECT / package).rglob("*.py")):
        importer = path.relative_to(PROJECT).with_suffix("").parts[1]
        for name in _imported(ast.parse(path.read_text("utf-8"))):
            parts = name.split(".")
            if parts[0] == package and len(parts) > 1 and parts[1] != importer:
                found.setdefault(importer, set()).add(parts[1])
    return found


def _imported(tree: ast.AST) -> list[str]:
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def find_implied(arrows: Edges) -> set[tuple[str, str]]:
    """Return the arrows whose target is also reached through other folders."""

    def reach(name: str) -> set[str]:
        return {name}.union(*(reach(target) for target in arrows.get(name, ())))

    return {
        (source, target)
        for source, targets in arrows.items()
        for target in targets
        if any(target in reach(other) for other in targets - {target})
    }


def lay_out(name: str, left: float, top: float, width: float) -> Package:
    """Return a package with its boxes placed in rows; arrows to single files are left out."""
    folder = PROJECT / name
    layers = [
        [Box(child, number, _parts(folder / child), not (folder / child).is_dir()) for child in layer]
        for number, layer in enumerate(read_layers(name))
    ]
    folders = {box.name for layer in layers for box in layer if not box.is_file}
    imports = read_imports(name)
    arrows = {source: targets & folders for source, targets in sorted(imports.items()) if targets & folders}
    for number, layer in enumerate(layers):
        gap = (width - sum(box.width for box in layer)) / (len(layer) + 1)
        right = left
        for box in layer:
            box.x, box.y = right + gap + box.width / 2, top + _HEAD + number * _PITCH
            right += gap + box.width
    return Package(name, left, top, width, layers, arrows)


def _parts(folder: Path) -> list[str]:
    return sorted(path.parent.name for path in folder.glob("*/__init__.py"))


def route(package: Package) -> dict[tuple[str, str], list[tuple[float, float]]]:
    """Return the points of each arrow: it passes the layers between its ends through the gaps between their boxes."""
    boxes = package.boxes
    pairs = [(source, target) for source, targets in package.arrows.items() for target in sorted(targets)]
    lanes: dict[tuple[int, int], list[tuple[float, tuple[str, str]]]] = {}
    for pair in pairs:
        start, end = boxes[pair[0]], boxes[pair[1]]
        for number in range(start.layer + 1, end.layer):
            share = (number - start.layer) / (end.layer - start.layer)
            wanted = start.x + (end.x - start.x) * share
            gap = min(range(len(_gaps(package, number))), key=lambda k: _distance(package, number, k, wanted))
            lanes.setdefault((number, gap), []).append((wanted, pair))
    passed: dict[tuple[str, str], dict[int, float]] = {pair: {} for pair in pairs}
    for (number, gap), wishes in lanes.items():
        for (_, pair), x in zip(sorted(wishes), _spread(_gaps(package, number)[gap], wishes), strict=True):
            passed[pair][number] = x
    return {pair: _points(package, pair, passed) for pair in pairs}


def _gaps(package: Package, number: int) -> list[tuple[float, float]]:
    layer = package.layers[number]
    lefts = [package.left + 4, *(box.x + box.width / 2 + 7 for box in layer)]
    rights = [*(box.x - box.width / 2 - 7 for box in layer), package.left + package.width - 4]
    return list(zip(lefts, rights, strict=True))


def _distance(package: Package, number: int, gap: int, wanted: float) -> float:
    left, right = _gaps(package, number)[gap]
    return max(left - wanted, wanted - right, 0.0)


def _spread(gap: tuple[float, float], wishes: list[tuple[float, tuple[str, str]]]) -> list[float]:
    """Return an x for each arrow in a gap: near the wanted ones, in their order, 8 apart where there is room."""
    step = min(8.0, (gap[1] - gap[0]) / max(len(wishes) - 1, 1))
    found: list[float] = []
    for place, (wanted, _) in enumerate(sorted(wishes)):
        least = found[-1] + step if found else gap[0]
        most = gap[1] - step * (len(wishes) - 1 - place)
        found.append(min(max(wanted, least), most))
    return found


def _points(
    package: Package, pair: tuple[str, str], passed: dict[tuple[str, str], dict[int, float]]
) -> list[tuple[float, float]]:
    start, end = (package.boxes[name] for name in pair)
    points = [(_port(package, pair, passed, 0), start.y + _HEIGHT)]
    for number, x in sorted(passed[pair].items()):
        top = package.top + _HEAD + number * _PITCH
        points += [(x, top - 2), (x, top + _HEIGHT + 2)]
    return [*points, (_port(package, pair, passed, 1), end.y - 5)]


def _port(
    package: Package, pair: tuple[str, str], passed: dict[tuple[str, str], dict[int, float]], side: int
) -> float:
    """Return where an arrow leaves its source (side 0) or meets its target (1), ordered so that arrows cross least."""
    boxes, box = package.boxes, package.boxes[pair[side]]
    others = [each for each in passed if each[side] == pair[side]]

    def beyond(each: tuple[str, str]) -> float:
        layers = sorted(passed[each].items(), reverse=side == 1)
        return layers[0][1] if layers else boxes[each[1 - side]].x

    order = sorted(others, key=lambda each: (beyond(each), each))
    step = min(14.0, (box.width - 16) / max(len(order) - 1, 1))
    return box.x + step * (order.index(pair) - (len(order) - 1) / 2)


def draw_package(package: Package) -> list[str]:
    """Return the SVG elements of a package: its frame, its arrows, then its boxes on top of them."""
    lines = [
        f'<rect class="frame" x="{package.left:g}" y="{package.top:g}" width="{package.width:g}" '
        f'height="{package.height:g}" rx="10"/>',
        f'<text class="title" x="{package.left + 16:g}" y="{package.top + 27:g}">{package.name}/</text>',
    ]
    implied = find_implied(package.arrows)
    for pair, points in sorted(route(package).items(), key=lambda item: (item[0] not in implied, item[0])):
        lines += _draw_arrow(package.name, points, " implied" if pair in implied else "")
    for box in package.boxes.values():
        lines += _draw_box(package.name, box)
    return lines


def _draw_arrow(kind: str, points: list[tuple[float, float]], style: str) -> list[str]:
    path = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
    for (x, y), (to_x, to_y) in pairwise(points):
        bend = (to_y - y) / 2
        path += f"C{x:.1f} {y + bend:.1f} {to_x:.1f} {to_y - bend:.1f} {to_x:.1f} {to_y:.1f}"
    x, y = points[-1]
    tip = f"M{x - 4:.1f} {y - 3:.1f}L{x:.1f} {y + 5:.1f}L{x + 4:.1f} {y - 3:.1f}Z"
    return [f'<path class="arrow {kind}{style}" d="{path}"/>', f'<path class="tip {kind}{style}" d="{tip}"/>']


def _draw_box(kind: str, box: Box) -> list[str]:
    single = " single" if box.is_file else ""
    down = 16 if box.parts else 23
    lines = [
        f'<rect class="box {kind}{single}" x="{box.x - box.width / 2:.1f}" y="{box.y:g}" width="{box.width:.1f}" '
        f'height="{_HEIGHT}" rx="6"/>',
        f'<text class="name{" file" if box.is_file else ""}" x="{box.x:.1f}" y="{box.y + down:g}">'
        f"{escape(box.name)}</text>",
    ]
    if box.parts:
        below = " ".join(f"{part}/" for part in box.parts)
        lines.append(f'<text class="sub" x="{box.x:.1f}" y="{box.y + 29:g}">{escape(below)}</text>')
    return lines


def draw() -> str:
    """Return the picture as SVG text; equal code gives equal bytes."""
    flows = lay_out("flows", 16, 16, _WIDTH - 32)
    top = flows.top + flows.height + 46
    pipeline, models = lay_out("pipeline", 16, top, 600), lay_out("models", 628, top, _WIDTH - 644)
    foot = top + max(pipeline.height, models.height) + 26
    lines = [line for package in (flows, pipeline, models) for line in draw_package(package)]
    for below in (pipeline, models):
        x = below.left + below.width / 2
        lines += _draw_arrow("flows", [(x, flows.top + flows.height), (x, top - 6)], " wide")
        lines.append(f'<text class="note" x="{x + 14:g}" y="{top - 19:g}">flows imports {below.name}</text>')
    notes = (
        "An arrow means: imports. Faint arrow: its target is also reached through other folders.",
        "Dashed box: a single file; arrows to single files are not drawn. "
        "Each row may import the rows below it, never those above.",
    )
    lines += [
        f'<text class="note" x="18" y="{foot + 18 * k:g}">{escape(note)}</text>'
        for k, note in enumerate(notes)
    ]
    height = foot + 18 * len(notes)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height:g}" '
        f'viewBox="0 0 {_WIDTH} {height:g}" role="img">\n'
        "<title>The folders of nextday in their layers, and which of them import which</title>\n"
        f"<style>{_STYLE}</style>\n"
        '<rect width="100%" height="100%" style="fill: var(--page)"/>\n'
    )
    return head + "\n".join(lines) + "\n</svg>\n"


if __name__ == "__main__":
    PICTURE.write_text(draw(), "utf-8")
