"""This module holds the results of the checks of a layer kind, and their text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Status = Literal["passed", "skipped", "refused", "failed"]


@dataclass(frozen=True)
class CheckResult:
    """The result of one check on a layer of one geometry.

    `reason` says what was wrong and what was expected, why a check does not apply, or why the class refuses such a
    layer; it is empty for a check that passed. A refused geometry has no check.
    """

    check: str
    geometry: str
    status: Status
    reason: str = ""


@dataclass(frozen=True)
class LayerReport:
    """The results of all checks of a layer kind; its text is for people."""

    layer: str
    results: tuple[CheckResult, ...]

    def with_status(self, status: Status) -> tuple[CheckResult, ...]:
        """Return the results with one status, in the order in which the checks ran."""
        return tuple(result for result in self.results if result.status == status)

    @property
    def faults(self) -> tuple[CheckResult, ...]:
        return self.with_status("failed")

    def __str__(self) -> str:
        geometries = {result.geometry for result in self.results if result.status != "refused"}
        # Checks of a class as a whole are of no geometry.
        geometries.discard("")
        checks = {result.check for result in self.with_status("passed")}
        lines = [f"{self.layer}: {len(checks)} checks passed on layers of {len(geometries)} geometries."]
        if self.faults:
            failed = {result.check for result in self.faults}
            lines = [f"{self.layer} fails {len(failed)} of {len(checks | failed)} checks:"]
            lines += _grouped(self.faults)
        for title, status in (("Skipped", "skipped"), ("Refused", "refused")):
            results = [result for result in self.results if result.status == status]
            if results:
                lines += [f"{title}:", *_grouped(results)]
        return "\n".join(lines)


_NUMBER = re.compile(r"-?\d[\d.]*(e[+-]\d+)?")


def _grouped(results: Iterable[CheckResult]) -> list[str]:
    """Return a line for each check and reason, with the geometries that have them in common.

    Reasons that differ in numbers alone count as one; the numbers shown are those of the first geometry.
    """
    reasons: dict[tuple[str, str], str] = {}
    geometries: dict[tuple[str, str], list[str]] = {}
    for result in results:
        key = (result.check, _NUMBER.sub("", result.reason))
        reasons.setdefault(key, result.reason)
        geometries.setdefault(key, []).append(result.geometry)
    lines = []
    for key, names in geometries.items():
        layers = "; ".join(name for name in dict.fromkeys(names) if name)
        prefix = f"{key[0]}: " if key[0] else ""
        suffix = f" [{layers}]" if layers else ""
        lines.append(f"- {prefix}{reasons[key]}{suffix}")
    return lines
