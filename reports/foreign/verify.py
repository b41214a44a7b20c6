"""This module checks a report on foreign results: it computes every number again and names each that differs.

With the results at hand they are read anew, and the copy in the report is held against them. Without, the copy is all
that there is to compute from, and a note says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ablations.errors import AblationError, OptionError
from ablations.stores.addresses import shown
from reports.collect.foreign.measurements import ForeignResults
from reports.collect.foreign.source import kind_of, read_results
from reports.content.maker import Maker
from reports.evidence.foreign_manifest import Json, stated_in
from reports.evidence.manifest import is_brief, is_intact, made_by
from reports.evidence.report_file import Carried
from reports.foreign.make import compute_foreign
from reports.verify import Verification, compare_pages, differences, number_count, other_tools, rendered_again

_COPY = (
    "the results were not given: every number was computed from the copy of them in the report. With --results they "
    "are held against the copy"
)
_COMPUTED = ("rows", "claims", "document")


def verify_foreign(path: Path, report: Carried, stored: Json, address: str | None, maker: Maker) -> Verification:
    """Compute every number of a report on foreign results again and return the differences.

    Args:
        path: The report, of which `report` is the content and `stored` the manifest.
        address: The results, or `None` to compute from their copy in the report.
        maker: The code at hand.

    Raises:
        OptionError: If the results are not of the kind that the report is on.
        ReportError: If the manifest cannot be read.
        ResultsError: If the results cannot be read.
        TrackingError: If a tracking store cannot be read.
    """
    study, copy = stated_in(stored)
    lines = []
    notes = []
    if not is_intact(stored):
        lines.append("the manifest was changed: its digest is not that of its content")
    results = copy
    if address is None:
        notes.append(_COPY)
    else:
        if kind_of(address) != copy.source.kind:
            raise OptionError(
                f"the report is on {copy.source.title}, and --results {shown(address)} is not of that kind."
            )
        read = read_results(address, replace(copy.columns, metric=copy.metric))
        changed = list(_measured_otherwise(copy, read))
        lines += changed
        if read.source.digest != copy.source.digest and not changed:
            notes.append(f"{read.source.title} is not the same bytes, but all its values are those in the report")
        # The source has the name that the report gives it: a renamed file holds the same results.
        results = replace(read, source=copy.source, columns=copy.columns)
    try:
        again = compute_foreign(study, results, stored["made_by"], brief=is_brief(stored))
    except AblationError as error:
        return Verification((*lines, f"nothing can be computed: {error}"), tuple(notes))
    for section in _COMPUTED:
        lines += differences(stored[section], again.content[section], section)
    tools = other_tools(stored, made_by(maker))
    page_lines, unchecked = compare_pages(report, rendered_again(again.document, path), exactly=not tools)
    notes += unchecked
    # Where nothing differs, the tools do not matter.
    if tools and (lines or page_lines or unchecked):
        notes.append(f"{tools}.")
    count = len(results.measurements)
    return Verification((*lines, *page_lines), tuple(notes), number_count(again.content), count)


def _measured_otherwise(copy: ForeignResults, read: ForeignResults) -> Iterator[str]:
    """Yield a line for each cell in which the results are not those in the report."""
    stored, source = _by_cell(copy), _by_cell(read)
    for cell in dict.fromkeys([*stored, *source]):
        in_report, in_source = stored.get(cell, "nothing"), source.get(cell, "nothing")
        if in_report != in_source:
            variant, seed = cell
            yield f"{variant}, seed {seed}: {in_report} in the report, {in_source} in {read.source.title}"


def _by_cell(results: ForeignResults) -> dict[tuple[str, int], str]:
    """Return what was measured of each cell, in words; the order of equal cells does not matter."""
    words: dict[tuple[str, int], list[str]] = {}
    for item in results.measurements:
        value = repr(item.value) if item.value == item.value else item.status
        if item.checkpoint:
            value += f" (checkpoint {item.checkpoint})"
        if item.correctness is not None:
            value += f" (images {item.correctness.digest[:12]})"
        words.setdefault((item.variant, item.seed), []).append(value)
    return {cell: " and ".join(sorted(values)) for cell, values in words.items()}
