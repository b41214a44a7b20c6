"""This module writes docs/performance.md, the page on speed for users, and its figure. It measures nothing."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.details import timings
from benchmarks.markdown import MIB, milliseconds, origin_line, table

_INTRODUCTION = """\
# Performance

How fast the dynamic layers are on one thread of a processor, compared with two others. *Static* is the same network
with ordinary convolutions, in the memory format that is faster for it. *Textbook* computes the same numbers as ours the
way that public implementations do: it writes one mixed kernel per image and runs one convolution grouped by image.
K = 4, float32; every convolution but the stem is dynamic.
"""

_METHOD = """\
## How it was measured

By `make bench`. The implementations take turns in one process, and the median of their rounds stands here, so that a
slow spell of the machine meets all of them; read the ratios rather than the milliseconds. Single layers, bounds and
where the time goes are in [developing/timings.md](developing/timings.md), and what was tried in
[developing/speed.md](developing/speed.md).
"""


def write(measurements: dict[str, Any], folder: Path) -> None:
    """Write the pages and the figure into `folder`, from the `measurements`, by name of the part."""
    sections = [_INTRODUCTION]
    # A page without its networks would have nothing to say to a user.
    if "networks" in measurements:
        networks = measurements["networks"]["results"]
        few = measurements["latency"]["results"] if "latency" in measurements else []
        sections += [_summary(networks, few), _training(networks), _memory(networks)]
        if few:
            sections.insert(3, _few_images(few))
    if "layers" in measurements:
        _draw(measurements["layers"]["results"], folder / "performance.png")
        sections.append(_layers(measurements["layers"]["results"]))
    sections += [_METHOD, _origins(measurements)]
    text = "\n\n".join(section.strip() for section in sections) + "\n"
    (folder / "performance.md").write_text(text, encoding="utf-8")
    (folder / "developing").mkdir(exist_ok=True)
    (folder / "developing" / "timings.md").write_text(timings(measurements), encoding="utf-8")


def _origins(measurements: dict[str, Any]) -> str:
    """Return a line per machine and commit, with the parts of the page that were measured there."""
    parts: dict[str, list[str]] = {}
    for name, words in _MEASURED.items():
        if name in measurements:
            parts.setdefault(origin_line(measurements[name]["measured"]), []).append(words)
    return "\n".join(f"- {', '.join(words)}: {line}" for line, words in parts.items())


def _range(values: Sequence[float]) -> str:
    low, high = f"{min(values):.2f}", f"{max(values):.2f}"
    return low if low == high else f"{low} to {high}"


def _summary(networks: Sequence[dict[str, Any]], few: Sequence[dict[str, Any]]) -> str:
    lines = [
        f"- A training step takes {_range([r['times_the_static_step'] for r in networks])} times the static one. It is "
        f"{_range([r['times_as_fast_as_textbook'] for r in networks])} times as fast as the textbook's."
    ]
    single = [_best(few, title, 1) for title in dict.fromkeys(r["title"] for r in few)]
    if single:
        lines.append(
            f"- One image takes {_range([s['ours'] / s['static'] for s in single])} times the static time, and is "
            f"{_range([s['textbook'] / s['ours'] for s in single])} times as fast as the textbook's."
        )
    shares = [r["share_of_the_memory_that_textbook_adds"] for r in networks]
    lines.append(
        f"- Of the memory that the textbook adds to a training step, ours adds {100 * max(shares):.0f} % at most."
    )
    return "## In short\n\n" + "\n".join(lines)


def _best(few: Sequence[dict[str, Any]], title: str, batch: int) -> dict[str, float]:
    """Return the seconds by implementation, each in the memory format that is faster for it."""
    cases = [r["seconds"] for r in few if (r["title"], r["batch"]) == (title, batch)]
    return {name: min(seconds[name] for seconds in cases) for name in cases[0]}


def _training(networks: Sequence[dict[str, Any]]) -> str:
    head = ("network", "batch", "static, ms", "ours, ms", "textbook, ms", "ours / static", "textbook / ours")
    rows = []
    for r in networks:
        seconds = r["seconds"]
        times = (min(seconds["static"], seconds["static NCHW"]), seconds["ours"], seconds["textbook"])
        ratios = (r["times_the_static_step"], r["times_as_fast_as_textbook"])
        rows.append((r["title"], str(r["batch"]), *map(milliseconds, times), *(f"{ratio:.2f}" for ratio in ratios)))
    return "## A training step: forward and backward\n\n" + table(head, rows)


def _few_images(few: Sequence[dict[str, Any]]) -> str:
    head = ("network", "format", "images", "static, ms", "ours, ms", "textbook, ms", "ours / static", "textbook / ours")
    rows = []
    for r in few:
        seconds = r["seconds"]
        times = [milliseconds(seconds[name]) for name in _NAMES]
        ratios = (seconds["ours"] / seconds["static"], seconds["textbook"] / seconds["ours"])
        rows.append((r["title"], r["format"], str(r["batch"]), *times, *(f"{ratio:.2f}" for ratio in ratios)))
    return "## One image and small batches: forward\n\n" + table(head, rows)


def _memory(networks: Sequence[dict[str, Any]]) -> str:
    head = ("network", "static", "ours", "textbook")
    rows = []
    for r in networks:
        peaks = [f"{r['peak_bytes'][name] / MIB:.0f}" for name in _NAMES]
        rows.append((r["title"], *peaks))
    return "## Memory of a training step\n\nThe peak beyond parameters and images, in MiB.\n\n" + table(head, rows)


def _layers(layers: Sequence[dict[str, Any]]) -> str:
    ratios = [r["seconds"]["textbook"] / r["seconds"]["ours"] for r in layers]
    return (
        "## Single layers\n\n![Time of each layer beside a static one](performance.png)\n\n"
        f"Each mark is a layer, forward and backward. Over {len(layers)} shapes ours is "
        f"{statistics.median(ratios):.1f} times as fast as the textbook in the median, and {min(ratios):.2f} times at "
        "worst."
    )


_NAMES = ("static", "ours", "textbook")
_MEASURED = {"networks": "training steps and memory", "latency": "few images", "layers": "single layers"}


def _draw(results: list[dict[str, Any]], path: Path) -> None:
    figure = Figure(figsize=(7, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    networks = list(dict.fromkeys(r["network"] for r in results))
    for position, network in enumerate(networks):
        network_seconds = [r["seconds"] for r in results if r["network"] == network]
        for offset, name, marker in ((-0.12, "textbook", "x"), (0.12, "ours", "o")):
            values = [s[name] / s["static"] for s in network_seconds]
            axes.plot(
                [position + offset] * len(values), values, marker, ms=4, alpha=0.6, ls="none",
                color="#D55E00" if name == "textbook" else "#0072B2", label=name if position == 0 else None,
            )  # fmt: skip
    # Logarithmic: half and twice the time are equally far from one.
    axes.set_yscale("log")
    axes.axhline(1, color="black", lw=0.8)
    axes.set_ylabel("time of a layer / static layer")
    axes.set_xticks(range(len(networks)), [name.replace(", ", "\n") for name in networks], fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=160, metadata={"Software": None})
