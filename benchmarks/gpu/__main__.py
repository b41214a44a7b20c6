"""`python -m benchmarks.gpu [part …]` measures on the first GPU; `--dry-run` walks every case on the CPU, tiny.

It needs no network and nobody beside it: it ends in time, a case that fails is told and the next one goes on, and JSON
and Markdown are written after each.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu import choosing, page, parts
from benchmarks.gpu.clock import Budget, TimeIsUp, interrupted_after
from benchmarks.gpu.parts import Case, Result
from benchmarks.gpu.setting import Setting, on_cpu, on_gpu
from dyconv.kernels.cuda import choices
from runners.provenance import project_commit

ROOT = Path(__file__).resolve().parents[2]
RESULTS, PAGE, DRY_TABLE = "gpu-measured.json", "gpu-measured.md", "choices.json"

PARTS: dict[str, tuple[Callable[[Setting], Iterator[Case]], float]] = {
    "machine": (parts.machine, 0.1),
    "checks": (parts.checks, 0.3),
    "choices": (choosing.cases, 0.4),
    "networks": (parts.networks, 0.6),
    "layers": (parts.layers, 0.5),
    "single": (parts.single, 0.4),
    "sharing": (parts.sharing, 0.6),
    "tiles": (choosing.tiles, 1.0),
}
"""Parts in their order, and the share of the time left that each may use: what one leaves is for those after it."""


def main(arguments: list[str]) -> int:
    """Measure what was asked for; return 0, or 1 if a check found wrong numbers, or 2 if there is no GPU."""
    options = _parsed(arguments)
    if not options.dry_run and not torch.cuda.is_available():
        sys.stderr.write("torch sees no GPU here: use --dry-run to walk the cases on the CPU\n")
        return 2
    setting = on_cpu() if options.dry_run else on_gpu()
    threads = torch.get_num_threads()
    if setting.tiny:
        # Nothing here is large enough to be divided.
        torch.set_num_threads(1)
    try:
        return _carry_out(options, setting)
    finally:
        torch.set_num_threads(threads)


def _carry_out(options: argparse.Namespace, setting: Setting) -> int:
    if options.small_training is not None:
        sys.stdout.write(f"{parts.small_training(options.small_training, setting)}\n")
        return 0
    folder = options.out or ROOT / ("build/gpu-dry-run" if options.dry_run else "docs/developing")
    folder.mkdir(parents=True, exist_ok=True)
    measurements = Measurements(folder, setting, options.minutes)
    budget = Budget(60 * options.minutes)
    for name in options.parts or PARTS:
        cases, share = PARTS[name]
        measurements.measure(name, cases(setting), budget.part(share))
    return 0 if measurements.are_right() else 1


def _parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"{', '.join(PARTS)} (default: all)")
    parser.add_argument("--dry-run", action="store_true", help="walk every case on the CPU, at tiny size")
    parser.add_argument("--minutes", type=float, default=10.0, help="end after so many (default: 10)")
    parser.add_argument("--out", type=Path, help="the folder of the results (default: docs/developing)")
    parser.add_argument("--small-training", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"unknown part {', '.join(sorted(unknown))}: known are {', '.join(PARTS)}")
    return options


class Measurements:
    """The results so far, in memory and on disk."""

    def __init__(self, folder: Path, setting: Setting, minutes: float) -> None:
        self._folder, self._setting = folder, setting
        self._results: dict[str, Any] = {
            "device": parts.device_name(setting),
            "dry_run": setting.tiny,
            "minutes": minutes,
            "origin": _origin(),
            "parts": {},
        }

    def measure(self, part: str, cases: Iterator[Case], budget: Budget) -> None:
        """Measure the cases of a part while there is time, and write after each."""
        results: list[Result] = []
        self._results["parts"][part] = results
        for case in cases:
            started = time.monotonic()
            result = self._result(case, budget)
            results.append({"title": case.title, **result, "took_seconds": round(time.monotonic() - started, 2)})
            self._write()
            sys.stderr.write(f"{part}: {case.title}\n")
        if part == "choices":
            self._write_table([row for row in results if "seconds" in row])

    def _result(self, case: Case, budget: Budget) -> Result:
        if budget.left <= 0:
            return {"skipped": "no time was left"}
        try:
            with interrupted_after(budget.left):
                return case.measure()
        except TimeIsUp as error:
            return {"skipped": str(error)}
        except Exception as error:  # whatever it is, the other cases are worth having
            traceback.print_exc()
            return {"failed": f"{type(error).__name__}: {error}"[:500]}
        finally:
            if self._setting.device.type == "cuda":
                # An error of the device itself would come up here again.
                with suppress(RuntimeError):
                    torch.cuda.empty_cache()

    def _write_table(self, rows: list[Result]) -> None:
        """Write what was measured into the table in the source tree; in a dry run, into the folder of the results."""
        rows = [{key: value for key, value in row.items() if key not in ("title", "took_seconds")} for row in rows]
        machine = [result for result in self._results["parts"].get("machine", []) if "bytes_per_second" in result]
        name = self._results["device"]
        if not rows or not (machine or choosing.is_known(name)):
            return
        sheet = choosing.sheet_of(name, machine[0] if machine else {})
        part = choosing.table_part(name, rows, sheet, self._results["origin"])
        choosing.write_table(name, part, self._folder / DRY_TABLE if self._setting.tiny else choices.TABLE)

    def _write(self) -> None:
        _write_whole(self._folder / RESULTS, json.dumps(self._results, indent=1, ensure_ascii=False) + "\n")
        _write_whole(self._folder / PAGE, page.page_of(self._results))

    def are_right(self) -> bool:
        """Return False if a check found wrong numbers or failed."""
        checked = self._results["parts"].get("checks", [])
        return all(result.get("right", "failed" not in result) for result in checked)


def _write_whole(path: Path, text: str) -> None:
    # A reader, and a kill, see the old file or the new one.
    beside = path.with_suffix(f"{path.suffix}.{os.getpid()}.tmp")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def _origin() -> dict[str, str]:
    commit = project_commit()
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "torch": torch.__version__,
        "triton": choosing.triton_version(),
        "python": platform.python_version(),
        "commit": commit.sha[:12] + (" with changes" if commit.dirty else ""),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
