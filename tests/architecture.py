"""Draws the picture of ARCHITECTURE.md from the imports of the code.

`python -m tests.architecture` writes it anew; `tests/test_architecture.py` fails while the page shows another one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import grimp

PAGE = Path(__file__).parent.parent / "ARCHITECTURE.md"
CONTAINERS = ("runners", "reports", "ablations", "dyconv")
_PICTURE = re.compile(r"```mermaid\n.*?```\n", re.DOTALL)


def draw() -> str:
    """Return the picture in Mermaid's language: a box for each container, in it the packages that modules live in."""
    graph = grimp.build_graph(*CONTAINERS)
    arrows: dict[str, set[str]] = {}
    for importer in graph.modules:
        for imported in graph.find_modules_directly_imported_by(importer):
            if _room(importer) != _room(imported):
                arrows.setdefault(_room(importer), set()).add(_room(imported))
    rooms = sorted({_room(module) for module in graph.modules})
    lines = ["flowchart TD"]
    for container in CONTAINERS:
        lines.append(f"  subgraph {container}")
        inside = [room for room in rooms if room.startswith(f"{container}.")]
        lines += [f'    {_name(room)}["{room.partition(".")[2]}"]' for room in inside]
        within = {room: {other for other in arrows.get(room, ()) if other in inside} for room in inside}
        lines += [f"    {_name(start)} --> {_name(end)}" for start, end in _needed(within)]
        lines.append("  end")
    between = {(start.partition(".")[0], end.partition(".")[0]) for start, ends in arrows.items() for end in ends}
    lines += [f"  {start} ==> {end}" for start, end in sorted(between) if start != end]
    return "\n".join(lines) + "\n"


def _room(module: str) -> str:
    """Return the package that a module lives in, two names deep; a module directly in a container is its own room."""
    return ".".join(module.split(".")[:2])


def _name(room: str) -> str:
    return room.replace(".", "_")


def _needed(arrows: Mapping[str, Iterable[str]]) -> list[tuple[str, str]]:
    """Return the arrows that no longer way along other arrows stands for, so that the picture can be read."""
    needed = []
    for start, ends in arrows.items():
        for end in ends:
            ways = (other for other in ends if other != end)
            if not any(_leads(arrows, way, end) for way in ways):
                needed.append((start, end))
    return sorted(needed)


def _leads(arrows: Mapping[str, Iterable[str]], start: str, end: str) -> bool:
    waiting, seen = [start], set[str]()
    while waiting:
        room = waiting.pop()
        if room == end:
            return True
        if room not in seen:
            seen.add(room)
            waiting.extend(arrows.get(room, ()))
    return False


def picture_of(page: str) -> str:
    """Return the picture that a page shows."""
    shown = _PICTURE.search(page)
    assert shown is not None, "the page has no picture"
    return shown.group().removeprefix("```mermaid\n").removesuffix("```\n")


def main() -> None:
    """Write the picture of the code as it is into the page."""
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(_PICTURE.sub(f"```mermaid\n{draw()}```\n", page), encoding="utf-8")


if __name__ == "__main__":
    main()
