"""This module tells the results as Markdown; it computes ratios and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Result = dict[str, Any]
_MIB = 2**20
_SMALL_TILE = 1.05
"""Times as fast from which another tile is worth a word."""


def page_of(results: Result) -> str:
    """Return the page of all results so far."""
    origin = results["origin"]
    head = (
        f"# Measured on a GPU: {results['device']}\n\n"
        f"Made by `python -m benchmarks.gpu` on {origin['date']}, commit {origin['commit']}, torch {origin['torch']}, "
        f"Triton {origin['triton']}, within {results['minutes']:g} minutes. The implementations of a case take turns; "
        "numbers are medians. Trainings and layers compute in bfloat16 by autocast, in channels-last."
    )
    if results["dry_run"]:
        head += " **This was a dry run on a CPU at tiny size: no number here means anything.**"
    sections = [head]
    for name, part in results["parts"].items():
        title, tell = _SECTIONS[name]
        measured = [result for result in part if "skipped" not in result and "failed" not in result]
        sections.append(f"## {title}")
        if measured:
            sections.append(tell(measured))
        for result in part:
            for word in ("skipped", "failed"):
                if word in result:
                    sections.append(f"{word.capitalize()}: {result['title']} ({result[word]}).")
    return "\n\n".join(sections) + "\n"


def _machine(results: list[Result]) -> str:
    rows = []
    for result in results:
        rates = result["operations_per_second"]
        tera = [f"{rate / 1e12:.1f}" for rate in (rates["bfloat16"], rates["float32"], result["vector"])]
        rows.append((*tera, f"{result['bytes_per_second'] / 1e9:.0f}", f"{result['start_seconds'] * 1e6:.1f}"))
    return _table(("bfloat16, TFLOP/s", "TF32, TFLOP/s", "float32, TFLOP/s", "GB/s", "µs per start"), rows)


def _checks(results: list[Result]) -> str:
    rows = []
    for result in results:
        errors = result.get("errors", {})
        worst = max(errors, key=lambda name: errors[name], default="")
        told = f"{errors[worst]:.1e} ({worst})" if worst else result.get("note", "")
        rows.append((result["title"], told, "right" if result["right"] else "**wrong**"))
    return _table(("check", "largest error", ""), rows)


def _choices(results: list[Result]) -> str:
    first: dict[str, int] = {}
    margins = []
    for result in results:
        names = list(result["seconds"])
        first[names[0]] = first.get(names[0], 0) + 1
        margins.append(
            (result["title"], names[0], _ms(result["seconds"][names[0]]), names[1], _ms(result["seconds"][names[1]]))
        )
    counts = ", ".join(f"{name} {count}" for name, count in sorted(first.items(), key=lambda item: -item[1]))
    table = _table(("shape", "fastest", "ms", "second", "ms"), margins)
    return f"Fastest of {len(results)} shapes: {counts}.\n\n{table}"


def _steps(results: list[Result]) -> str:
    rows = []
    for result in results:
        for name, seconds in result["seconds"].items():
            memory = result.get("peak_bytes", {}).get(name)
            forward = result.get("forward_seconds", {}).get(name)
            cells = [result["title"], str(result.get("batch", 1)), name]
            cells += [_ms(forward) if forward is not None else "", _ms(seconds)]
            cells += [f"{seconds / _static(result):.2f}", f"{memory / _MIB:.0f}" if memory is not None else ""]
            rows.append(tuple(cells))
    return _table(("case", "batch", "implementation", "forward, ms", "step, ms", "times static", "peak, MiB"), rows)


def _static(result: Result) -> float:
    """Return the seconds of the static implementation, compiled where the others are."""
    seconds: dict[str, float] = result["seconds"]
    return next(seconds[name] for name in seconds if name.startswith("static"))


def _sharing(results: list[Result]) -> str:
    alone = results[0]["images_per_second"]
    rows = [
        (str(r["count"]), f"{r['images_per_second']:.0f}", f"{r['images_per_second'] / alone:.2f}") for r in results
    ]
    return _table(("trainings", "images/s together", "times one"), rows)


def _tiles(results: list[Result]) -> str:
    rows = []
    for result in results:
        chosen = result["seconds"]["chosen"]
        others = {name: seconds for name, seconds in result["seconds"].items() if name != "chosen"}
        best = min(others, key=lambda name: others[name])
        better = f"{best}: {chosen / others[best]:.2f} times as fast" if chosen > _SMALL_TILE * others[best] else "none"
        rows.append((result["title"], _ms(chosen), better))
    return _table(("shape", "step, ms", "a better tile"), rows)


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


_SECTIONS: dict[str, tuple[str, Callable[[list[Result]], str]]] = {
    "machine": ("The device", _machine),
    "checks": ("Right numbers", _checks),
    "choices": ("The table of choices", _choices),
    "networks": ("A training step", _steps),
    "layers": ("Layers", _steps),
    "single": ("One image", _steps),
    "sharing": ("Small trainings at once", _sharing),
    "tiles": ("Tiles", _tiles),
}
