"""This module checks a report against its runs: it computes every number again and names each that differs.

The report's manifest holds the request. The same code makes the document anew from the store, and both are compared:
the manifest's numbers by their names, the pages by their words and by a digest of their drawing.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from ablations.errors import ReportError
from ablations.launches import Record
from ablations.planning.plan import Plan, make_plan
from ablations.planning.request import Request
from ablations.planning.tuned_values import TunedValues, tuned_from_data
from ablations.presets import get_preset
from ablations.registry import available_studies, get_study
from ablations.spec.identities import changes
from ablations.study import Study
from reports.analysis.summary import summarize
from reports.collect.results import Results
from reports.collect.runs import collect, what_became_of
from reports.collect.tuning import tuning_differences
from reports.content.blocks import Document
from reports.content.plan_words import plugins_in
from reports.document.study_report import build_document
from reports.evidence.manifest import (
    NAME,
    Json,
    Maker,
    is_intact,
    made_by,
    manifest,
    read_manifest,
    study_data,
    with_manifest,
)
from reports.evidence.report_file import Carried, Page, carried, read_report
from reports.render import get_renderer

_SHOWN = 90
"""Characters of a value that a difference quotes."""

_ASKED_AFTER = 100
"""Most missing runs that the store is asked about: each is a request."""


@dataclass(frozen=True)
class Verification:
    """The result of a check.

    Attributes:
        differences: The differences between the report and its runs, a line each; none if all is as it should be.
        notes: The parts that could not be checked, with the reason.
        numbers: Number of numbers that were computed and compared.
        runs: Number of runs that they come from.
    """

    differences: tuple[str, ...]
    notes: tuple[str, ...]
    numbers: int = 0
    runs: int = 0

    def lines(self, most: int = 40) -> Iterator[str]:
        """Yield lines for a person: the first `most` differences, the notes, the amount that was computed again."""
        yield from (f"differs: {line}" for line in self.differences[:most])
        if len(self.differences) > most:
            yield f"… and {len(self.differences) - most} more"
        yield from (f"note: {line}" for line in self.notes)
        count = len(self.differences)
        computed = f"{self.numbers:,} numbers of {self.runs:,} runs computed again"
        yield f"{computed}: {count or 'no'} difference{'s' if count != 1 else ''}."


def verify(path: Path, tracking_uri: str, maker: Maker) -> Verification:
    """Compute every number of a report again and return the differences.

    Args:
        path: The PDF or the HTML page.
        tracking_uri: The store that holds its runs.
        maker: The code at hand, which may not be the one that made the report.

    Raises:
        ReportError: If the file cannot be read or carries no manifest.
        TrackingError: If the store cannot be reached.
        AblationError: If the manifest names something that is not known here: a study's settings, a data set.
    """
    report = read_report(path)
    stored = read_manifest(report.manifest)
    plan = planned(stored)
    altered = [] if is_intact(stored) else ["the manifest was changed: its digest is not that of its content"]
    altered += _unlike_registered(plan)
    altered += map(str, changes(stored.get("plugins"), plugins_in(plan)))
    try:
        results = collect(plan, tracking_uri)
    except ReportError as error:
        return Verification((*altered, f"nothing can be computed: {error}"), ())
    results, forgotten = _as_of_then(results, stored["launches"])
    summaries = summarize(plan, results)
    document = build_document(plan, results, summaries)
    # Under the stored tools: whether these differ is told apart from the numbers.
    computed = manifest(plan, results, summaries, document, stored["made_by"])
    # The attachments are part of the pages' bytes, so that the new document needs them too.
    document = with_manifest(document, computed, plan, results)
    untuned, unchecked_tuning = tuning_differences(plan, tracking_uri)
    altered += untuned
    forgotten += unchecked_tuning
    altered += _run_differences(stored["runs"], computed["runs"], tracking_uri)
    # Runs were compared above by their names. The request made the plan, and tools may differ without harm.
    sections = [name for name in computed if name not in ("runs", "sha256", "request", "made_by", "plugins")]
    altered += [line for name in sections for line in differences(stored.get(name), computed[name], name)]
    tools = _tools(stored, made_by(maker))
    page_differences, unchecked = _pages(report, _again(document, path), exactly=not tools)
    notes = [*forgotten, *unchecked, *([f"{tools}."] if tools and (altered or page_differences or unchecked) else ())]
    return Verification(
        (*altered, *page_differences), tuple(notes), sum(1 for _ in _numbers(computed)), len(computed["runs"])
    )


def planned(stored: Json) -> Plan:
    """Return the plan that a manifest's request makes, here and now.

    Raises:
        AblationError: If it is not a request, or not one that is known here.
    """
    try:
        request_data = stored["request"]
        scale = (
            get_preset(request_data["preset"]),
            request_data["overrides"],
            request_data["seeds"],
            request_data["canary"],
        )
        request = Request(*scale, _tuned(request_data))
        studies = [Study.model_validate_json(json.dumps(study)) for study in request_data["studies"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ReportError(f"what its manifest asks for cannot be read: {_first_line(error)}") from None
    return make_plan(studies, request)


def _tuned(request_data: Json) -> TunedValues | None:
    files = request_data.get("tuned")
    return tuned_from_data(files, Path(NAME)) if files is not None else None


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {' '.join(lines[:3])}" if lines else type(error).__name__


def _unlike_registered(plan: Plan) -> Iterator[str]:
    base = plan.request.base()
    for study in plan.studies:
        if study.name in available_studies() and study_data(get_study(study.name, base)) != study_data(study.whole):
            yield f"study {study.name!r} is not the one that is registered here under that name"


def _as_of_then(results: Results, stored: Json) -> tuple[Results, list[str]]:
    """Return results with the launches in a report, and notes on those that the store has forgotten.

    A store goes on: launches come after a report, and old ones make room for them in the summary runs.
    """
    try:
        records = {str(key): Record.from_mapping(values) for key, values in stored.items()}
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise ReportError(f"the launches in its manifest cannot be read ({type(error).__name__}).") from None
    tracked = {launch.launch: launch for launch in results.launches}
    forgotten = [key for key in records if key not in tracked]
    notes = [f"the store has no record of launch {key} any more: its times are not checked" for key in forgotten]
    return replace(results, launches=tuple(tracked.get(key, record) for key, record in records.items())), notes


def _run_differences(stored: Any, computed: Json, uri: str) -> list[str]:
    """Return the differences between the runs of a manifest and those of the store, each by the name of its run."""
    stored = stored if isinstance(stored, dict) else {}
    gone = [str(run.get("run")) for key, run in stored.items() if key not in computed and isinstance(run, dict)]
    # Each run is a request to the store, so that the number is limited.
    fates = what_became_of(uri, gone[:_ASKED_AFTER])
    lines = []
    for key in dict.fromkeys([*stored, *computed]):
        stored_run, computed_run = stored.get(key), computed.get(key)
        run: Any = stored_run if isinstance(stored_run, dict) else computed_run
        name = f"run {run.get('run')} ({run.get('serves')}, seed {run.get('seed')})" if run else f"run of {key}"
        if computed_run is None:
            lines.append(f"{name}: {fates.get(str(run.get('run') if run else ''), 'is not what the plan asks for')}")
        elif stored_run is None:
            lines.append(f"{name} is missing in the report")
        else:
            lines += differences(stored_run, computed_run, name)
    return lines


def differences(stored: Any, computed: Any, name: str) -> list[str]:
    """Return a line per difference of two values, with the names on the way to it."""
    if isinstance(stored, dict) and isinstance(computed, dict):
        keys = dict.fromkeys([*stored, *computed])
        return [line for key in keys for line in differences(stored.get(key), computed.get(key), f"{name}, {key}")]
    if isinstance(stored, list) and isinstance(computed, list) and len(stored) == len(computed):
        pairs = enumerate(zip(stored, computed, strict=True), start=1)
        return [line for number, pair in pairs for line in differences(*pair, f"{name}, {number}")]
    # In Python True equals 1 and 1 equals 1.0, but a report that shows one for the other differs.
    if stored == computed and type(stored) is type(computed):
        return []
    return [f"{name}: {_quoted(stored, computed)} in the report, {_quoted(computed, stored)} from the runs"]


def _quoted(value: Any, other: Any) -> str:
    if value is None:
        return "nothing"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if len(text) > _SHOWN and isinstance(other, str):
        first = next(
            (index for index, (char, other_char) in enumerate(zip(text, other, strict=False)) if char != other_char), 0
        )
        # A long text is quoted from shortly before the first character that differs.
        text = f"…{text[max(0, first - 20) :]}"
    text = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
    return f"“{text}”" if isinstance(value, str) else text


def _tools(stored: Json, here: Json) -> str:
    """Return the differences of code and tools between a report's making and this check; nothing if there are none."""
    made = stored["made_by"]
    if made == here:
        return ""
    commit_words = []
    if (made.get("commit"), made.get("modified")) != (here["commit"], here["modified"]):
        commit_words.append(f"commit {_commit(made)} (here {_commit(here)})")
    versions: Any = made.get("versions")
    versions = versions if isinstance(versions, dict) else {}
    version_words = [
        f"{name} {versions.get(name)} (here {version})"
        for name, version in here["versions"].items()
        if versions.get(name) != version
    ]
    return f"the report was made with {', '.join([*commit_words, *version_words])}"


def _commit(made: Mapping[str, Any]) -> str:
    return f"{made.get('commit')!s:.12}{'*' if made.get('modified') else ''}"


def _again(document: Document, path: Path) -> bytes:
    """Return the bytes of the file that the document makes now."""
    ending = "pdf" if path.read_bytes()[:5] == b"%PDF-" else "html"
    with tempfile.TemporaryDirectory(prefix="dyconv-verify-") as folder:
        # Into a folder of its own: nothing beside the report may be overwritten.
        return get_renderer(ending)(document, Path(folder), "report").read_bytes()


def _pages(held: Carried, content: bytes, *, exactly: bool) -> tuple[list[str], list[str]]:
    """Return the differences in what pages show, and notes on the parts that could not be checked."""
    expected = carried(content)
    differences_shown = []
    if len(held.pages) != len(expected.pages):
        differences_shown.append(f"the report has {len(held.pages)} pages, its runs make {len(expected.pages)}")
    drawn = []
    for number, (page, right) in enumerate(zip(held.pages, expected.pages, strict=False), start=1):
        page_name = f"page {number}" if len(expected.pages) > 1 else "the page"
        page_lines = [f"{page_name}: {line}" for line in _line_differences(page, right)]
        if page.extras > right.extras:
            page_lines.append(f"{page_name} carries {page.extras} notes or fields that lie on top of its words")
        # Other words draw otherwise, too: only a page with the right words is suspected of its drawing.
        drawn += [page_name] if page.drawn != right.drawn and not page_lines else []
        differences_shown += page_lines
    if not drawn:
        return differences_shown, []
    # Other versions of the tools may draw the same words otherwise, so that another drawing proves nothing then.
    if exactly:
        message = "draws something else than its runs make, though its words are the same"
        return [*differences_shown, *(f"{page_name} {message}" for page_name in drawn)], []
    return differences_shown, [f"what {', '.join(drawn)} draw beside words (figures, lines) could not be checked"]


def _line_differences(page: Page, right: Page) -> Iterator[str]:
    # Pages differ in a line or two, and matching takes long: equal lines at both ends are left out.
    equal_at_start = _alike(page.lines, right.lines)
    equal_at_end = _alike(page.lines[equal_at_start:][::-1], right.lines[equal_at_start:][::-1])
    lines, expected_lines = (
        page_lines[equal_at_start : len(page_lines) - equal_at_end] for page_lines in (page.lines, right.lines)
    )
    for kind, a, b, c, d in SequenceMatcher(None, lines, expected_lines, autojunk=False).get_opcodes():
        if kind != "equal":
            seen, expected = " / ".join(lines[a:b]), " / ".join(expected_lines[c:d])
            yield f"{_quoted(seen or None, expected)} is shown, {_quoted(expected or None, seen)} follows from the runs"


def _alike(lines: Sequence[str], others: Sequence[str]) -> int:
    """Return the number of equal lines at the start of two pages."""
    pairs = enumerate(zip(lines, others, strict=False))
    return next((index for index, (line, other_line) in pairs if line != other_line), min(len(lines), len(others)))


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _numbers(item)
    elif isinstance(value, list):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value
