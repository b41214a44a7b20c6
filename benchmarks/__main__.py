"""`python -m benchmarks [part …]` measures, then writes docs/performance.md, .png and docs/developing/timings.md.

Without a part it measures all of the layers. Parts that are not named keep their results, which are in
docs/developing/timings.json.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks import harness, latency, launching, layers, networks, reporting
from benchmarks.processor import processor
from benchmarks.roofline import measure_machine
from benchmarks.writing import write
from runners.provenance import project_commit
from runners.workers.memory import keep_freed_memory

FOLDER = Path(__file__).resolve().parent.parent / "docs"


def _networks() -> list[dict[str, Any]]:
    machine = measure_machine()
    return [_said(networks.measure(case, machine)) for case in networks.CASES]


def _layers() -> Iterator[dict[str, Any]]:
    machine = measure_machine()
    for title, name, options in layers.NETWORKS:
        for pixels, batch in layers.PIXELS.items():
            for shape in layers.shapes(name, pixels, batch, options):
                yield {"network": f"{title}, {pixels} px", **layers.measure(shape, machine)}


def _latency() -> list[dict[str, Any]]:
    return [_said(measured) for case in latency.CASES for measured in latency.measure(case)]


OF_LAYERS: dict[str, Callable[[], Any]] = {
    "machine": lambda: asdict(measure_machine()),
    "networks": _networks,
    "latency": _latency,
    "layers": lambda: [_said(measured) for measured in _layers()],
}
OF_THE_HARNESS: dict[str, Callable[[], Any]] = {
    "trial": lambda: _said(harness.trial()),
    "launch": launching.launching,
    "planning": harness.planning,
    "reporting": reporting.reporting,
}
PARTS = OF_LAYERS | OF_THE_HARNESS


def main(wanted: list[str]) -> None:
    """Measure the parts called `wanted`, by default those of the layers, and write the pages from all results."""
    unknown = set(wanted) - set(PARTS)
    if unknown:
        sys.exit(f"unknown part {', '.join(sorted(unknown))}. Known are: {', '.join(PARTS)}")
    torch.set_num_threads(1)
    keep_freed_memory()
    path = FOLDER / "developing" / "timings.json"
    measurements: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    origin = _where()
    for name in wanted or OF_LAYERS:
        measurements[name] = {"measured": origin, "results": PARTS[name]()}
        # After each part, so that an interrupt loses one part only.
        path.write_text(json.dumps(measurements, indent=1, ensure_ascii=False) + "\n")
    write(measurements, FOLDER)


def _where() -> dict[str, str]:
    commit = project_commit()
    return {
        "machine": f"{processor()}, one thread",
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": commit.sha[:12] + (" with changes" if commit.dirty else ""),
    }


def _said(result: dict[str, Any]) -> dict[str, Any]:
    sys.stderr.write(f"{result['title']}\n")
    return result


if __name__ == "__main__":
    main(sys.argv[1:])
