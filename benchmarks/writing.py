"""This module writes docs/performance.md and its figure from the measurements. It measures nothing."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.anatomy import KINDS

_MS = 1e3
_MIB = 2**20

_INTRODUCTION = """\
# Performance

Made by `make bench`. Each line is measured in one process: the implementations take turns, and the median of their
rounds stands here, so that the ratios hold although the machine is shared. *Textbook* is one aggregated kernel per
image and one convolution grouped by image, as public implementations do it (`benchmarks/textbook.py`); it computes the
same numbers. *Static* is the network or layer with ordinary convolutions, channels-last unless said otherwise. K = 4,
float32, one thread, every convolution but the stem dynamic. What falls short of its goal, why, and what was tried
against it: [limits.md](limits.md).
"""


def write(known: dict[str, Any], folder: Path) -> None:
    """Write the page and its figure into `folder`, from the measurements that are `known`, by name of the part."""
    sections = [_INTRODUCTION]
    for name, tell in _PARTS.items():
        if name in known:
            origin = known[name]["measured"]
            line = (
                f"{origin['machine']}; torch {origin['torch']}, Python {origin['python']}; commit {origin['commit']}."
            )
            sections.append(f"{tell(known[name]['results'])}\n\n{line}")
    if "layers" in known:
        _draw(known["layers"]["results"], folder / "performance.png")
    (folder / "performance.md").write_text("\n\n".join(sections) + "\n", encoding="utf-8")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    rule = "|".join(["---"] + ["---:"] * (len(head) - 1))
    return "\n".join(["| " + " | ".join(head) + " |", f"|{rule}|", *("| " + " | ".join(row) + " |" for row in rows)])


def _ms(seconds: float) -> str:
    value = seconds * _MS
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def _machine(r: dict[str, Any]) -> str:
    speeds = [(float(size), value) for size, value in r["bytes_per_second"].items()]
    columns = [f"{size / _MIB:g} MiB" for size, _ in speeds], [f"{value / 1e9:.0f}" for _, value in speeds]
    return (
        "## This processor\n\n"
        f"One thread does {r['multiply_adds'] / 1e9:.0f} thousand million multiply-adds a second in a large product or "
        "convolution, whichever is faster. It moves (reads and writes, GB a second, by the size of what is copied):\n\n"
        + _table(columns[0], [columns[1]])
        + "\n\nA *bound* below is what it could do at best: each layer at that speed of multiply-adds or of memory, "
        "whichever takes longer, everything read once and written once, no call, no copy, no mixed kernel ever "
        "written to memory (`benchmarks/roofline.py`)."
    )


def _networks(results: list[dict[str, Any]]) -> str:
    head = (
        "network", "batch", "static", "static NCHW", "ours", "textbook", "times as fast as textbook",
        "times the static step",
    )  # fmt: skip
    rows = []
    for r in results:
        times = [_ms(r["seconds"][name]) for name in ("static", "static NCHW", "ours", "textbook")]
        ratios = [f"{r['times_as_fast_as_textbook']:.2f}", f"{r['times_the_static_step']:.2f}"]
        rows.append((r["title"], str(r["batch"]), *times, *ratios))
    bounds = []
    for r in results:
        static, ours = (r["bound_seconds"][name] for name in ("static", "ours"))
        reached = [static / min(r["seconds"]["static"], r["seconds"]["static NCHW"]), ours / r["seconds"]["ours"]]
        ideal = f"{ours / min(r['seconds']['static'], r['seconds']['static NCHW']):.2f}"
        bounds.append((r["title"], _ms(static), _ms(ours), *(f"{share:.2f}" for share in reached), ideal))
    bound_head = (
        "network", "static, bound", "ours, bound", "bound / static", "bound / ours", "bound of ours / static measured",
    )  # fmt: skip
    memory_head = ("network", "static", "ours", "textbook", "ours adds", "textbook adds", "share")
    memory = []
    for r in results:
        peak = {name: value / _MIB for name, value in r["peak_bytes"].items()}
        # Each against the static network in its own memory format.
        added = (peak["ours"] - peak["static"], peak["textbook"] - peak["static NCHW"])
        values = [peak["static"], peak["ours"], peak["textbook"], *added]
        share = r["share_of_the_memory_that_textbook_adds"]
        memory.append((r["title"], *(f"{value:.0f}" for value in values), f"{share:.2f}"))
    return (
        "## A training step (forward and backward, ms)\n\n"
        + _table(head, rows)
        + "\n\nHow near that is to what the processor could do (ms, and shares of the measured time):\n\n"
        + _table(bound_head, bounds)
        + "\n\nWhere the time goes (ms, by torch's profiler, which slows calls down; calls are Python, dispatch, "
        "autograd, the small operations of attention and, in ours, the compiled kernels, which it does not see):\n\n"
        + _anatomy(results)
        + "\n\nPeak memory of that step beyond parameters and images (MiB):\n\n"
        + _table(memory_head, memory)
    )


def _anatomy(results: list[dict[str, Any]]) -> str:
    rows = [
        (r["title"], name, *(_ms(r["anatomy"][name][kind]) for kind in KINDS))
        for r in results
        for name in ("static", "ours")
    ]
    return _table(("network", "layers", *KINDS), rows)


def _latency(results: list[dict[str, Any]]) -> str:
    rows = []
    for r in results:
        s = r["seconds"]
        rows.append(
            (r["title"], *(_ms(s[n]) for n in ("static", "ours", "textbook")), f"{s['ours'] / s['static']:.2f}")
        )
    head = ("network", "static", "ours", "textbook", "ours / static")
    return "## One image (forward, NCHW, ms)\n\n" + _table(head, rows)


def _trial(r: dict[str, Any]) -> str:
    return (
        "## A trial of preset quick\n\n"
        f"{r['title']}: {r['seconds']:.1f} s, {r['images_per_second']:.0f} images/s in training. Its network alone, "
        f"timed step by step, takes {r['network_seconds']:.1f} s; {100 * r['share_outside']:.0f} % are outside it: "
        "imports, data and augmentation, metrics, gradient norm, attention profile, checkpoints. Writing its state "
        f"down (leases, progress, metrics, checkpoints, weights, result) takes {100 * r['share_state']:.1f} %."
    )


def _planning(results: list[dict[str, float]]) -> str:
    rows = [(f"{r['runs']:,.0f}", _ms(r["seconds"]), f"{r['seconds'] / r['runs'] * 1e6:.0f}") for r in results]
    return "## Planning\n\n" + _table(("runs", "ms", "µs per run"), rows)


def _launching(r: dict[str, Any]) -> str:
    rows = [
        (q["studies"], f"{q['own']:.1f}", f"{q['others']:.0f}", f"{100 * q['own'] / (q['own'] + q['others']):.1f} %")
        for q in r["quick"]
    ]
    return (
        "## A launch\n\n"
        f"From the start of the process to the first step of training: {r['first_step_seconds']:.1f} s (median). "
        "Processor time of runs at preset quick in an empty folder: the launcher plans, tracks, follows and reports; "
        "workers import, train, evaluate and write their state down.\n\n"
        + _table(("quick run of", "launcher, s", "workers, s", "the launcher's share"), rows)
    )


def _reporting(results: list[dict[str, float]]) -> str:
    rows = [(f"{r['runs']:,.0f}", f"{r['seconds']:.1f}", f"{r['seconds'] / r['runs'] * 1e3:.1f}") for r in results]
    return "## Reporting (tracking store to PDF)\n\n" + _table(("runs", "s", "ms per run"), rows)


def _layers(results: list[dict[str, Any]]) -> str:
    sections = ["## Layers (ms; forward, and forward and backward)", "![Speed-up per layer](performance.png)"]
    ratios = [r["seconds"]["textbook"] / r["seconds"]["ours"] for r in results]
    slower = [f"{r['title']} ({1 / x:.2f})" for r, x in zip(results, ratios, strict=True) if x < 1 / 1.1]
    sections.append(
        f"Over {len(results)} shapes ours is {statistics.median(ratios):.1f} times as fast as the textbook in the "
        f"median, {min(ratios):.2f} times at worst. Slower by more than a tenth: {', '.join(slower) or 'nowhere'}."
    )
    head = (
        "layer", "static fwd", "ours fwd", "textbook fwd", "static", "ours", "textbook", "textbook / ours",
        "ours, bound", "MiB",
    )  # fmt: skip
    for network in dict.fromkeys(r["network"] for r in results):
        network_results = [r for r in results if r["network"] == network]
        rows = []
        for r in network_results:
            times = [_ms(r[key][name]) for key in ("forward_seconds", "seconds") for name in _NAMES]
            ratio = f"{r['seconds']['textbook'] / r['seconds']['ours']:.2f}"
            peak = " / ".join(f"{r['peak_bytes'][name] / _MIB:.0f}" for name in _NAMES)
            rows.append((r["title"], *times, ratio, _ms(r["bound_seconds"]["ours"]), peak))
        sections.append(f"### {network}, batch {network_results[0]['batch']}\n\n{_table(head, rows)}")
    return "\n\n".join(sections)


_NAMES = ("static", "ours", "textbook")
_PARTS: dict[str, Callable[[Any], str]] = {
    "machine": _machine,
    "networks": _networks,
    "latency": _latency,
    "trial": _trial,
    "launch": _launching,
    "planning": _planning,
    "reporting": _reporting,
    "layers": _layers,
}


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
