"""Whether a report says what its runs say: every number computed again from the tracked runs, each that differs named.

The report's manifest says what was asked. The same code makes the document anew from the store, and both are held
against each other: the manifest's numbers by their names, the pages by their words and by what they draw.
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
from reports.collect.results import Results
from reports.collect.runs import collect, what_became_of
from reports.collect.search import tuning_differences
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
"""Runs that are gone of which the store is asked what became of them: each is a request."""


@dataclass(frozen=True)
class Verification:
    """What came of it.

    Attributes:
        differences: What differs between the report and its runs, a line each; none if it is as it should be.
        notes: What could not be checked, and why.
        numbers: How many numbers were computed and compared.
        runs: How many runs they come from.
    """

    differences: tuple[str, ...]
    notes: tuple[str, ...]
    numbers: int = 0
    runs: int = 0

    def lines(self, most: int = 40) -> Iterator[str]:
        """Yields what a person is told: the first `most` differences, the notes, how much was computed again."""
        yield from (f"differs: {line}" for line in self.differences[:most])
        if len(self.differences) > most:
            yield f"… and {len(self.differences) - most} more"
        yield from (f"note: {line}" for line in self.notes)
        count = len(self.differences)
        computed = f"{self.numbers:,} numbers of {self.runs:,} runs computed again"
        yield f"{computed}: {count or 'no'} difference{'s' if count != 1 else ''}."


def verify(path: Path, tracking_uri: str, maker: Maker) -> Verification:
    """Computes every number of a report again and returns what differs.

    Args:
        path: The PDF or the HTML page.
        tracking_uri: The store that holds its runs.
        maker: The code that does so, to tell whether it is the same that made the report.

    Raises:
        ReportError: If the file cannot be read or carries no manifest.
        TrackingError: If the store cannot be reached.
        AblationError: If what the manifest asks for is not known here: a study's settings, a data set.
    """
    held = read_report(path)
    told = read_manifest(held.manifest)
    plan = planned(told)
    altered = [] if is_intact(told) else ["the manifest was changed: its digest is not that of its content"]
    altered += _unlike_registered(plan)
    altered += map(str, changes(told.get("plugins"), plugins_in(plan)))
    try:
        results = collect(plan, tracking_uri)
    except ReportError as error:
        return Verification((*altered, f"nothing can be computed: {error}"), ())
    results, forgotten = _as_of_then(results, told["launches"])
    document = build_document(plan, results)
    computed = manifest(plan, results, document, told["made_by"])
    document = with_manifest(document, computed, plan, results)
    untuned, unknown = tuning_differences(plan, tracking_uri)
    altered += untuned
    forgotten += unknown
    altered += _run_differences(told["runs"], computed["runs"], tracking_uri)
    rest = [name for name in computed if name not in ("runs", "sha256", "request", "made_by", "plugins")]
    altered += [line for name in rest for line in differences(told.get(name), computed[name], name)]
    tools = _tools(told, made_by(maker))
    shown, unchecked = _pages(held, _again(document, path), exactly=not tools)
    notes = [*forgotten, *unchecked, *([f"{tools}."] if tools and (altered or shown or unchecked) else ())]
    return Verification((*altered, *shown), tuple(notes), sum(1 for _ in _numbers(computed)), len(computed["runs"]))


def planned(told: Json) -> Plan:
    """Returns the plan that a manifest's request makes, here and now.

    Raises:
        AblationError: If it is not a request, or not one that is known here.
    """
    try:
        asked = told["request"]
        scale = (get_preset(asked["preset"]), asked["overrides"], asked["seeds"], asked["canary"])
        request = Request(*scale, _tuned(asked))
        studies = [Study.model_validate_json(json.dumps(study)) for study in asked["studies"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ReportError(f"what its manifest asks for cannot be read: {_first_line(error)}") from None
    return make_plan(studies, request)


def _tuned(asked: Json) -> TunedValues | None:
    files = asked.get("tuned")
    return tuned_from_data(files, Path(NAME)) if files is not None else None


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {' '.join(lines[:3])}" if lines else type(error).__name__


def _unlike_registered(plan: Plan) -> Iterator[str]:
    base = plan.request.base()
    for study in plan.studies:
        if study.name in available_studies() and study_data(get_study(study.name, base)) != study_data(study.whole):
            yield f"study {study.name!r} is not the one that is registered here under that name"


def _as_of_then(results: Results, told: Json) -> tuple[Results, list[str]]:
    """Returns results with the launches that a report tells of, and which of these the store has forgotten.

    A store goes on: launches come after a report, and old ones make room for them in the summary runs.
    """
    try:
        records = {str(key): Record.from_mapping(values) for key, values in told.items()}
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise ReportError(f"the launches in its manifest cannot be read ({type(error).__name__}).") from None
    known = {launch.launch: launch for launch in results.launches}
    forgotten = [key for key in records if key not in known]
    notes = [f"the store has no record of launch {key} any more: its times are not checked" for key in forgotten]
    return replace(results, launches=tuple(known.get(key, record) for key, record in records.items())), notes


def _run_differences(told: Any, computed: Json, uri: str) -> list[str]:
    """Returns what differs between the runs of a manifest and those of the store, each run by its name."""
    told = told if isinstance(told, dict) else {}
    gone = [str(run.get("run")) for key, run in told.items() if key not in computed and isinstance(run, dict)]
    fates = what_became_of(uri, gone[:_ASKED_AFTER])
    found = []
    for key in dict.fromkeys([*told, *computed]):
        own, other = told.get(key), computed.get(key)
        run: Any = own if isinstance(own, dict) else other
        name = f"run {run.get('run')} ({run.get('serves')}, seed {run.get('seed')})" if run else f"run of {key}"
        if other is None:
            found.append(f"{name}: {fates.get(str(run.get('run') if run else ''), 'is not what the plan asks for')}")
        elif own is None:
            found.append(f"{name} is missing in the report")
        else:
            found += differences(own, other, name)
    return found


def differences(told: Any, computed: Any, name: str) -> list[str]:
    """Returns where two values differ, by the names on the way there."""
    if isinstance(told, dict) and isinstance(computed, dict):
        keys = dict.fromkeys([*told, *computed])
        return [line for key in keys for line in differences(told.get(key), computed.get(key), f"{name}, {key}")]
    if isinstance(told, list) and isinstance(computed, list) and len(told) == len(computed):
        pairs = enumerate(zip(told, computed, strict=True), start=1)
        return [line for place, pair in pairs for line in differences(*pair, f"{name}, {place}")]
    if told == computed and type(told) is type(computed):
        return []
    return [f"{name}: {_quoted(told, computed)} in the report, {_quoted(computed, told)} from the runs"]


def _quoted(value: Any, other: Any) -> str:
    if value is None:
        return "nothing"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if len(text) > _SHOWN and isinstance(other, str):
        first = next((i for i, (a, b) in enumerate(zip(text, other, strict=False)) if a != b), 0)
        text = f"…{text[max(0, first - 20) :]}"
    text = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
    return f"“{text}”" if isinstance(value, str) else text


def _tools(told: Json, here: Json) -> str:
    """Returns in which way what made a report is not what verifies it; nothing if it is the same."""
    made = told["made_by"]
    if made == here:
        return ""
    words = []
    if (made.get("commit"), made.get("modified")) != (here["commit"], here["modified"]):
        words.append(f"commit {_commit(made)} (here {_commit(here)})")
    versions: Any = made.get("versions")
    versions = versions if isinstance(versions, dict) else {}
    others = [f"{k} {versions.get(k)} (here {v})" for k, v in here["versions"].items() if versions.get(k) != v]
    return f"the report was made with {', '.join([*words, *others])}"


def _commit(made: Mapping[str, Any]) -> str:
    return f"{made.get('commit')!s:.12}{'*' if made.get('modified') else ''}"


def _again(document: Document, path: Path) -> bytes:
    """Returns the file that the document makes now."""
    ending = "pdf" if path.read_bytes()[:5] == b"%PDF-" else "html"
    with tempfile.TemporaryDirectory(prefix="dyconv-verify-") as folder:
        return get_renderer(ending)(document, Path(folder), "report").read_bytes()


def _pages(held: Carried, content: bytes, *, exactly: bool) -> tuple[list[str], list[str]]:
    """Returns what pages show that they should not, and what of them could not be checked."""
    expected = carried(content)
    shown = []
    if len(held.pages) != len(expected.pages):
        shown.append(f"the report has {len(held.pages)} pages, its runs make {len(expected.pages)}")
    drawn = []
    for number, (page, right) in enumerate(zip(held.pages, expected.pages, strict=False), start=1):
        where = f"page {number}" if len(expected.pages) > 1 else "the page"
        found = [f"{where}: {line}" for line in _line_differences(page, right)]
        if page.extras > right.extras:
            found.append(f"{where} carries {page.extras} notes or fields that lie on top of its words")
        drawn += [where] if page.drawn != right.drawn and not found else []
        shown += found
    if not drawn:
        return shown, []
    if exactly:
        told = "draws something else than its runs make, though its words are the same"
        return [*shown, *(f"{where} {told}" for where in drawn)], []
    return shown, [f"what {', '.join(drawn)} draw beside words (figures, lines) could not be checked"]


def _line_differences(page: Page, right: Page) -> Iterator[str]:
    # Pages differ in a line or two, and matching takes long: what they begin and end with alike is left out.
    first = _alike(page.lines, right.lines)
    last = _alike(page.lines[first:][::-1], right.lines[first:][::-1])
    lines, others = (each[first : len(each) - last] for each in (page.lines, right.lines))
    for kind, a, b, c, d in SequenceMatcher(None, lines, others, autojunk=False).get_opcodes():
        if kind != "equal":
            said, expected = " / ".join(lines[a:b]), " / ".join(others[c:d])
            yield f"{_quoted(said or None, expected)} is shown, {_quoted(expected or None, said)} follows from the runs"


def _alike(lines: Sequence[str], others: Sequence[str]) -> int:
    """Returns with how many equal lines two pages begin."""
    pairs = enumerate(zip(lines, others, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(len(lines), len(others)))


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        for part in value.values():
            yield from _numbers(part)
    elif isinstance(value, list):
        for part in value:
            yield from _numbers(part)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value
