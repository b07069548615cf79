"""Read who imports whom in keras_mixer/ and recipes/, and draw it as a house: `python tests/house.py` writes
docs/pictures/architecture.svg. The floors are those of tests/test_architecture.py, which enforces them."""

import ast
import html
import itertools
import pathlib
import textwrap

ROOT = pathlib.Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "pictures" / "architecture.svg"
FILES = sorted([*(ROOT / "keras_mixer").rglob("*.py"), *(ROOT / "recipes").glob("*.py")])

# Room -> the middle of its box in columns from the left, its colour, what it is for.
ROOMS = {
    "__main__": (1.5, "commands", "keras-mixer COMMAND, for who installed a wheel"),
    "recipes": (
        1.5,
        "commands",
        "the commands, one file each: pretrain, finetune, evaluate, predict, export, benchmark ...",
    ),
    "cli": (2.1, "commands", "a quiet start, flags, one training run, child processes"),
    "benchmark": (3.05, "commands", "speed, memory, scaling, start-up of models"),
    "run_data": (1.3, "model", "the data of a run, opened again"),
    "runs": (1.3, "model", "load_run: what a run, a file or an export left behind"),
    "export": (0, "model", "files for others: SavedModel, LiteRT, ONNX, a page"),
    "starting_point": (0.98, "model", "a checkpoint, opened as far as its facts"),
    "exported": (1.96, "model", "a SavedModel that export wrote, opened again"),
    "report": (2.94, "training", "report.html: a run on one page, from its files"),
    "models": (0, "model", "MLPMixer, the eight variants, preprocess_input"),
    "weights": (0, "model", "strict loading and saving, formats, downloads"),
    "layers": (0, "model", "PatchEmbed, MlpBlock and MixerBlock, in keras.ops"),
    "data": (1.5, "data", "files to batches: decode, crop, augment"),
    "evaluation": (2.9, "training", "accuracy over every image, by few shots, ReaL"),
    "pictures": (3.05, "training", "curves, confusions, weights, contact sheets"),
    "training": (3.05, "training", "step, loop, checkpoints, optimisers, strategies"),
    "composite": (0, "model", "which parts of a layer are frozen or quantised"),
    "one_pass": (0.98, "model", "an elementwise function, compiled for a CPU"),
    "buckets": (None, "ground", "paths that begin with gs://"),
    "arguments": (None, "ground", "checks of arguments"),
    "class_names": (None, "ground", "of the released heads"),
    "cost_model": (None, "ground", "operations and core-days"),
    "files": (None, "ground", "whole or not at all"),
    "random_draws": (None, "ground", "for a part of a batch"),
    "versions": (None, "ground", "what a result depends on"),
    "_version": (None, "ground", "of this package"),
    "errors": (None, "ground", "bad input as one sentence"),
    "paper": (None, "ground", "the numbers of its tables"),
    "types": (None, "ground", "names for types"),
}
FOUNDATION = 2  # floors that any room above may use, so that arrows to them would say nothing
WIDE = {"recipes": 3.92, "__main__": 1.5}  # in columns; other rooms are NARROW
NARROW, COLUMN, LEFT, WIDTH, ROW, GAP = 0.9, 236, 28, 1000, 56, 38
LIGHT = {
    **{"paper": "#ffffff", "ink": "#1f2328", "faint": "#59636e", "wall": "#d1d9e0", "roof": "#f3eef9"},
    **{"commands": "#8250df", "model": "#0969da", "data": "#1a7f37", "training": "#bc4c00", "ground": "#6e7781"},
}
DARK = {
    **{"paper": "#0d1117", "ink": "#f0f6fc", "faint": "#a5aeb8", "wall": "#3d444d", "roof": "#1c1730"},
    **{"commands": "#ab7df8", "model": "#58a6ff", "data": "#3fb950", "training": "#f0883e", "ground": "#9198a1"},
}


# ---- Reading ----


def room_of(name):
    """The room of a dotted name of the package, "" for the package itself."""
    return name.split(".")[1] if "." in name else ""


def module_of(path):
    """The dotted name of a file, whose recipes are keras_mixer.recipes."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts if parts[0] == "keras_mixer" else ("keras_mixer", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(text):
    """Every module that a source text imports, also inside functions."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms_below(floors):
    """Return room -> the rooms of lower floors that its files import."""
    floor = {room: number for number, rooms in enumerate(floors) for room in rooms}
    below = {room: set() for room in floor}
    for path in FILES:
        room = room_of(module_of(path))
        names = [name for name in imports_of(path.read_text()) if name.startswith("keras_mixer.")]
        if room in floor:
            below[room] |= {other for other in map(room_of, names) if floor.get(other, 99) < floor[room]}
    return below


def arrows(floors):
    """Return (importer, imported) pairs above the foundation, without those that follow from two others."""
    ground = set().union(*floors[:FOUNDATION])
    below = {room: others - ground for room, others in rooms_below(floors).items() if room not in ground}
    reached = {}
    for room in itertools.chain(*floors[FOUNDATION:]):  # from the ground up
        reached[room] = below[room].union(*(reached[other] for other in below[room]))
    return sorted((a, b) for a in below for b in below[a] if not any(b in reached[o] for o in below[a] - {b}))


# ---- Placing ----


def boxes(floors):
    """Return room -> (left, top, width, height) in pixels, the roof above."""
    placed, top = {}, 76
    for number in reversed(range(len(floors))):
        row = sorted(floors[number])
        for place, room in enumerate(row):
            middle, width = ROOMS[room][0], WIDE.get(room, NARROW) * COLUMN
            centre = LEFT + (0 if middle is None else (middle + 0.5) * COLUMN)
            if middle is None:
                share = 4 * COLUMN / len(row)
                width, centre = share - 12, LEFT + (place + 0.5) * share
            placed[room] = (centre - width / 2, top, width, ROW)
        top += ROW + (GAP if number > FOUNDATION else 46 if number == FOUNDATION else 10)
    return placed


def way(start, end, floors, placed):
    """Return the x at which an arrow passes each floor between two rooms: straight, but around boxes."""
    numbers = [next(n for n, rooms in enumerate(floors) if room in rooms) for room in (start, end)]
    left, _, width, _ = placed[end]
    x, goal = left + width / 2, []
    for number in range(numbers[1] + 1, numbers[0]):  # upwards from the end
        walls = sorted((placed[room][0] - 9, placed[room][0] + placed[room][2] + 9) for room in floors[number])
        inside = [(a, b) for a, b in walls if a < x < b]
        if inside:
            a, b = inside[0]
            towards = placed[start][0] + placed[start][2] / 2
            x = min((a, b), key=lambda edge: abs(edge - x) + abs(edge - towards))
        goal.append(x)
    return goal[::-1]


def path_of(start, port, end, floors, placed):
    """Return an arrow's path: down through the floors between, and in a curve from floor to floor."""
    left, top, width, _ = placed[end]
    y, d = placed[start][1] + ROW, f"M{port:.0f} {placed[start][1] + ROW}"
    for x in way(start, end, floors, placed):
        d += f"C{port:.0f} {y + GAP * 0.6:.0f} {x:.0f} {y + GAP * 0.4:.0f} {x:.0f} {y + GAP}V{y + GAP + ROW}"
        y, port = y + GAP + ROW, x
    x = left + width / 2
    return d + f"C{port:.0f} {y + GAP * 0.6:.0f} {x:.0f} {y + GAP * 0.4:.0f} {x:.0f} {top - 7}"


def ports(pairs, floors, placed):
    """Return (importer, imported) -> the x where the arrow leaves, in the order in which the arrows go."""
    found = {}
    for start, group in itertools.groupby(pairs, key=lambda pair: pair[0]):
        left, _, width, _ = placed[start]
        aims = []
        for pair in group:
            first = way(*pair, floors, placed)[:1] or [placed[pair[1]][0] + placed[pair[1]][2] / 2]
            aims.append((min(max(first[0], left + 24), left + width - 24), pair))
        last = 0
        for x, pair in sorted(aims):
            last = found[pair] = max(x, last + 16)
    return found


# ---- Drawing ----


def style(colours):
    """Return CSS that gives each class its colour."""
    groups = [name for name in colours if any(group == name for _, group, _ in ROOMS.values())]
    lines = [
        f".{g} rect{{stroke:{colours[g]}}} .{g} .name{{fill:{colours[g]}}} path.{g}{{stroke:{colours[g]}}}"
        for g in groups
    ]
    lines += [f"marker .{g}{{fill:{colours[g]};stroke:none}}" for g in groups]
    return "\n".join(
        [
            f"path.roof{{fill:{colours['roof']};stroke:{colours['wall']}}}",
            f"rect{{fill:{colours['paper']}}} text{{fill:{colours['ink']}}} .faint{{fill:{colours['faint']}}}",
            f".floor{{stroke:{colours['wall']}}}",
            *lines,
        ]
    )


def text(x, y, words, kind, anchor="middle"):
    return f'<text x="{x:.0f}" y="{y:.0f}" class="{kind}" text-anchor="{anchor}">{html.escape(words)}</text>'


def draw(floors):
    """Return the picture as SVG text."""
    placed, pairs = boxes(floors), arrows(floors)
    leaves = ports(pairs, floors, placed)
    height = max(top for _, top, _, _ in placed.values()) + ROW + 40
    eaves = placed["recipes"][1] - 14
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
        ' role="img" font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif">',
        "<title>The rooms of keras_mixer, and which imports which</title>",
        f"<style>\npath{{fill:none;stroke-width:1.8}}\n{style(LIGHT)}",
        f"@media (prefers-color-scheme: dark) {{\n{style(DARK)}\n}}",
        "rect{stroke-width:1.6} .name{font-size:15px;font-weight:600} .line{font-size:12px} .faint{font-size:12.5px}",
        ".floor{stroke-dasharray:2 5}\n</style>",
        "<defs>",
    ]
    for group in ("commands", "model", "data", "training"):
        lines.append(
            f'<marker id="to-{group}" viewBox="0 0 10 10" refX="4" refY="5" markerWidth="9" markerHeight="9" '
            f'markerUnits="userSpaceOnUse" orient="auto"><path class="{group}" d="M0 0L10 5L0 10z"/></marker>'
        )
    lines += [
        "</defs>",
        f'<rect width="{WIDTH}" height="{height}" style="stroke:none"/>',
        f'<path class="roof" d="M8 {eaves}L{WIDTH / 2:.0f} 8L{WIDTH - 8} {eaves}z"/>',
    ]
    for start, end in pairs:
        group = ROOMS[end][1]
        d = path_of(start, leaves[start, end], end, floors, placed)
        lines.append(f'<path class="{group}" d="{d}" marker-end="url(#to-{group})"/>')
    for room, (left, top, width, tall) in placed.items():
        _, group, what = ROOMS[room]
        says = textwrap.wrap(what, int((width - 8) / 6.6), break_on_hyphens=False)
        middle = left + width / 2
        lines.append(f'<g class="{group}"><rect x="{left:.0f}" y="{top}" width="{width:.0f}" height="{tall}" rx="7"/>')
        lines.append(text(middle, top + (19 if len(says) > 1 else 24), room, "name"))
        lines += [
            text(middle, top + (34 if len(says) > 1 else 42) + 14 * i, line, "line") for i, line in enumerate(says)
        ]
        lines.append("</g>")
    ground = max(placed[room][1] for room in floors[FOUNDATION]) + ROW + 29
    lines.append(f'<path class="floor" d="M{LEFT} {ground - 16}H{WIDTH - LEFT}"/>')
    lines.append(text(WIDTH / 2, ground, "The foundation, which every room above may import.", "faint"))
    note = "Imports go down only. An arrow that follows from two others is left out."
    lines.append(text(WIDTH / 2, height - 14, note, "faint"))
    return "\n".join([*lines, "</svg>", ""])


if __name__ == "__main__":
    from test_architecture import FLOORS

    PICTURE.write_text(draw(FLOORS))
