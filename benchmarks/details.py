"""This module writes docs/developing/timings.md: every measurement, with bounds and shares. It measures nothing."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from benchmarks.anatomy import KINDS
from benchmarks.markdown import MIB, milliseconds, origin_line, table

_INTRODUCTION = """\
# Timings

Every measurement of `make bench` and `make bench-harness`, for those who work on the speed. For users there is
[performance.md](../performance.md); goals and what was tried are in [speed.md](speed.md). Each line is measured in one
process: the implementations take turns, and the median of their rounds stands here. *Textbook* is one aggregated kernel
per image and one convolution grouped by image, as public implementations do it (`benchmarks/textbook.py`); it computes
the same numbers. *Static* is the network or layer with ordinary convolutions, channels-last unless said otherwise.
K = 4, float32, one thread, every convolution but the stem dynamic.
"""


def timings(measurements: dict[str, Any]) -> str:
    """Return the page that tells the `measurements`, by name of the part."""
    sections = [_INTRODUCTION]
    for name, tell in _PARTS.items():
        if name in measurements:
            origin = measurements[name]["measured"]
            sections.append(f"{tell(measurements[name]['results'])}\n\n{origin_line(origin)}")
    return "\n\n".join(sections) + "\n"


def _machine(r: dict[str, Any]) -> str:
    speeds = [(float(size), value) for size, value in r["bytes_per_second"].items()]
    columns = [f"{size / MIB:g} MiB" for size, _ in speeds], [f"{value / 1e9:.0f}" for _, value in speeds]
    return (
        "## This processor\n\n"
        f"One thread does {r['multiply_adds'] / 1e9:.0f} thousand million multiply-adds a second in a large product or "
        "convolution, whichever is faster. It moves (reads and writes, GB a second, by the size of what is copied):\n\n"
        + table(columns[0], [columns[1]])
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
        times = [milliseconds(r["seconds"][name]) for name in ("static", "static NCHW", "ours", "textbook")]
        ratios = [f"{r['times_as_fast_as_textbook']:.2f}", f"{r['times_the_static_step']:.2f}"]
        rows.append((r["title"], str(r["batch"]), *times, *ratios))
    bounds = []
    for r in results:
        static, ours = (r["bound_seconds"][name] for name in ("static", "ours"))
        reached = [static / min(r["seconds"]["static"], r["seconds"]["static NCHW"]), ours / r["seconds"]["ours"]]
        ideal = f"{ours / min(r['seconds']['static'], r['seconds']['static NCHW']):.2f}"
        bounds.append(
            (r["title"], milliseconds(static), milliseconds(ours), *(f"{share:.2f}" for share in reached), ideal)
        )
    bound_head = (
        "network", "static, bound", "ours, bound", "bound / static", "bound / ours", "bound of ours / static measured",
    )  # fmt: skip
    memory_head = ("network", "static", "ours", "textbook", "ours adds", "textbook adds", "share")
    memory = []
    for r in results:
        peak = {name: value / MIB for name, value in r["peak_bytes"].items()}
        # Each against the static network in its own memory format.
        added = (peak["ours"] - peak["static"], peak["textbook"] - peak["static NCHW"])
        values = [peak["static"], peak["ours"], peak["textbook"], *added]
        share = r["share_of_the_memory_that_textbook_adds"]
        memory.append((r["title"], *(f"{value:.0f}" for value in values), f"{share:.2f}"))
    return (
        "## A training step (forward and backward, ms)\n\n"
        + table(head, rows)
        + "\n\nHow near that is to what the processor could do (ms, and shares of the measured time):\n\n"
        + table(bound_head, bounds)
        + "\n\nWhere the time goes (ms, by torch's profiler, which slows calls down; calls are Python, dispatch, "
        "autograd, the small operations of attention and, in ours, the compiled kernels, which it does not see):\n\n"
        + _anatomy(results)
        + "\n\nPeak memory of that step beyond parameters and images (MiB):\n\n"
        + table(memory_head, memory)
    )


def _anatomy(results: list[dict[str, Any]]) -> str:
    rows = [
        (r["title"], name, *(milliseconds(r["anatomy"][name][kind]) for kind in KINDS))
        for r in results
        for name in ("static", "ours")
    ]
    return table(("network", "layers", *KINDS), rows)


def _trial(r: dict[str, Any]) -> str:
    return (
        "## A trial of preset quick\n\n"
        f"{r['title']}: {r['seconds']:.1f} s, {r['images_per_second']:.0f} images/s in training. Its network alone, "
        f"timed step by step, takes {r['network_seconds']:.1f} s; {100 * r['share_outside']:.0f} % are outside it: "
        "imports, data and augmentation, metrics, gradient norm, attention profile, checkpoints. Writing its state "
        f"down (leases, progress, metrics, checkpoints, weights, result) takes {100 * r['share_state']:.1f} %."
    )


def _planning(results: list[dict[str, float]]) -> str:
    rows = [(f"{r['runs']:,.0f}", milliseconds(r["seconds"]), f"{r['seconds'] / r['runs'] * 1e6:.0f}") for r in results]
    return "## Planning\n\n" + table(("runs", "ms", "µs per run"), rows)


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
        + table(("quick run of", "launcher, s", "workers, s", "the launcher's share"), rows)
    )


def _reporting(results: list[dict[str, float]]) -> str:
    rows = [(f"{r['runs']:,.0f}", f"{r['seconds']:.1f}", f"{r['seconds'] / r['runs'] * 1e3:.1f}") for r in results]
    return "## Reporting (tracking store to PDF)\n\n" + table(("runs", "s", "ms per run"), rows)


def _layers(results: list[dict[str, Any]]) -> str:
    sections = ["## Layers (ms; forward, and forward and backward)"]
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
            times = [milliseconds(r[key][name]) for key in ("forward_seconds", "seconds") for name in _NAMES]
            ratio = f"{r['seconds']['textbook'] / r['seconds']['ours']:.2f}"
            peak = " / ".join(f"{r['peak_bytes'][name] / MIB:.0f}" for name in _NAMES)
            rows.append((r["title"], *times, ratio, milliseconds(r["bound_seconds"]["ours"]), peak))
        sections.append(f"### {network}, batch {network_results[0]['batch']}\n\n{table(head, rows)}")
    return "\n\n".join(sections)


_NAMES = ("static", "ours", "textbook")
_PARTS: dict[str, Callable[[Any], str]] = {
    "machine": _machine,
    "networks": _networks,
    "trial": _trial,
    "launch": _launching,
    "planning": _planning,
    "reporting": _reporting,
    "layers": _layers,
}
