"""This module checks a report against its runs: it computes every number again and names each that differs.

The report's manifest holds the request. The same code makes the document anew from the store, and both are compared:
the manifest's numbers by their names, the pages by their words and by a digest of their drawing.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from ablations.errors import ReportError, StudyError
from ablations.launches import Record
from ablations.planning.frozen_plan import frozen_from_data
from ablations.planning.plan import Plan
from ablations.planning.plan_data import plan_of, study_data
from ablations.protocol.looks import Look
from ablations.registry import available_studies, get_study
from ablations.spec.fingerprint import SHORT
from ablations.spec.identities import changes
from reports.analysis.protocol import look_words
from reports.analysis.summary import summarize
from reports.collect.results import Results
from reports.collect.runs import collect, what_became_of
from reports.collect.tuning import tuning_differences
from reports.content.blocks import Document
from reports.content.maker import Maker
from reports.content.plan_words import plugins_in, plural
from reports.document.brief import brief_of
from reports.document.study_report import build_document
from reports.evidence.manifest import (
    Json,
    is_brief,
    is_intact,
    made_by,
    manifest,
    read_manifest,
    with_manifest,
)
from reports.evidence.report_file import Carried, carried, read_report
from reports.render import get_renderer

_LONGEST_QUOTE = 90
"""Characters of a value that a difference quotes."""

_MOST_REQUESTS = 100
"""Most missing runs that the store is asked about: each is a request."""


@dataclass(frozen=True)
class Verification:
    """The result of a check.

    Attributes:
        differences: The differences between the report and its runs, a line each; none if all is as it should be.
        notes: The parts that could not be checked, with the reason.
        numbers: Number of numbers that were computed and compared, from so many `runs`.
        integrity: A line on the bytes of the file, if they were checked, for a bundle.
        is_readable: False if the file was changed so that nothing was computed.
    """

    differences: tuple[str, ...]
    notes: tuple[str, ...]
    numbers: int = 0
    runs: int = 0
    integrity: str = ""
    is_readable: bool = True

    def lines(self, most: int = 40) -> Iterator[str]:
        """Yield lines for a person: the first `most` differences, the notes, the amount that was computed again."""
        if self.integrity:
            yield self.integrity
        for line in self.differences[:most]:
            yield f"differs: {line}"
        if len(self.differences) > most:
            yield f"… and {len(self.differences) - most} more"
        for note in self.notes:
            yield f"note: {note}"
        # Of a file that was changed nothing was computed, and its first lines say so.
        if not self.is_readable:
            return
        count = len(self.differences)
        computed = f"{self.numbers:,} numbers of {self.runs:,} runs computed again"
        yield f"{computed}: {count or 'no'} {plural(count, 'difference')}."


def verify(path: Path, tracking_uri: str, maker: Maker) -> Verification:
    """Compute every number of a report, PDF or HTML, again and return the differences.

    `maker` is the code at hand, which may not be the one that made the report.

    Raises:
        ReportError: If the file cannot be read or carries no manifest.
        TrackingError: If the store cannot be reached.
        AblationError: If the manifest names something that is not known here: a study's settings, a data set.
    """
    report = read_report(path)
    stored = read_manifest(report.manifest)
    plan = planned(stored)
    altered = []
    if not is_intact(stored):
        altered.append("the manifest was changed: its digest is not that of its content")
    altered += unlike_registered(plan)
    altered += map(str, changes(stored.get("plugins"), plugins_in(plan)))
    try:
        results = collect(plan, tracking_uri)
    except ReportError as error:
        return Verification((*altered, f"nothing can be computed: {error}"), ())
    again = recompute(plan, results, stored, tracking_uri)
    altered += again.differences
    for section in again.sections:
        altered += differences(stored.get(section), again.content[section], section)
    tools = other_tools(stored, made_by(maker))
    page_differences, unchecked = compare_pages(report, rendered_again(again.document, path), exactly=not tools)
    notes = [*again.notes, *unchecked]
    # Where nothing differs, the tools do not matter.
    if tools and (altered or page_differences or unchecked):
        notes.append(f"{tools}.")
    return Verification((*altered, *page_differences), tuple(notes), again.numbers, len(again.content["runs"]))


@dataclass(frozen=True)
class Recomputed:
    """A report that was computed again from its runs, as of the time when it was made.

    Attributes:
        document: The document, which carries its manifest.
        content: That manifest, under the tools that the stored one names.
        differences: The differences between the stored manifest and the store in runs, tunings, looks and frozen plans.
        notes: The parts that could not be checked, with the reason.
    """

    document: Document
    content: Json
    differences: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def sections(self) -> Iterator[str]:
        """The sections of the manifest that are still to be compared with those of the stored one."""
        for section in self.content:
            # Runs are compared by their names. The request made the plan, and tools may differ without harm.
            if section not in ("runs", "sha256", "request", "made_by", "plugins"):
                yield section

    @property
    def numbers(self) -> int:
        """Number of numbers that were computed."""
        return number_count(self.content)


def recompute(plan: Plan, results: Results, stored: Json, tracking_uri: str) -> Recomputed:
    """Return the report on a plan's results as of the time of a stored manifest."""
    results, missing, forgotten = as_of_then(results, stored)
    results, unchecked_computing = computing_of_then(results, stored.get("computing", {}))
    forgotten += unchecked_computing
    summaries = summarize(plan, results)
    document = build_document(plan, results, summaries)
    if is_brief(stored):
        document = brief_of(document)
    # Under the stored tools: whether these differ is told apart from the numbers.
    computed = manifest(plan, results, summaries, document, stored["made_by"])
    # The attachments are part of the pages' bytes, so that the new document needs them too.
    document = with_manifest(document, computed, plan, results)
    untuned, unchecked_tuning = tuning_differences(plan, tracking_uri)
    of_runs = _run_differences(stored["runs"], computed["runs"], tracking_uri)
    return Recomputed(document, computed, (*missing, *untuned, *of_runs), (*forgotten, *unchecked_tuning))


def planned(stored: Json) -> Plan:
    """Return the plan that a manifest's request makes, here and now.

    Raises:
        AblationError: If it is not a request, or not one that is known here.
    """
    try:
        return plan_of(stored["request"], "its manifest")
    except StudyError as error:
        raise ReportError(str(error)) from None


def unlike_registered(plan: Plan) -> Iterator[str]:
    """Yield a line for each study of a plan that is another one here under its name."""
    registered = [study for study in plan.studies if study.name in available_studies()]
    for study in registered:
        if study_data(get_study(study.name, plan.request.base())) != study_data(study.whole):
            yield f"study {study.name!r} is not the one that is registered here under that name"


def as_of_then(results: Results, stored: Json) -> tuple[Results, list[str], list[str]]:
    """Return results with the launches, looks and frozen plans of a report, differences from the store, and notes.

    A store goes on: launches and looks come after a report, and old ones make room for them in the summary runs.
    """
    try:
        records = {str(key): Record.from_mapping(values) for key, values in stored["launches"].items()}
        looks = tuple(Look.from_mapping(values) for values in stored.get("looks", ()))
        frozen = tuple(frozen_from_data(values) for values in stored.get("frozen", ()))
    except (TypeError, KeyError, ValueError, AttributeError, StudyError) as error:
        raise ReportError(f"the launches and looks in its manifest cannot be read ({type(error).__name__}).") from None
    tracked = {launch.launch: launch for launch in results.launches}
    launches, notes = [], []
    for key, record in records.items():
        if key not in tracked:
            notes.append(f"the store has no record of launch {key} any more: its times are not checked")
        launches.append(tracked.get(key, record))
    altered: list[str] = []
    if "looks" not in stored:
        # Made by an earlier version, or without the command line: no look was recorded with it.
        return replace(results, launches=tuple(launches), looks=(), frozen=frozen), altered, notes
    last = max((look.when for look in looks), default=math.inf)
    for look in results.looks:
        # Every look counts from its beginning, so an earlier one cannot have come after the report.
        if look.when < last and look not in looks:
            altered.append(f"a look at study {look.study} ({look_words(look)}) is missing in the report")
    digests = {plan.digest for plan in frozen}
    for plan in results.frozen:
        if plan.frozen_at < last and plan.digest not in digests:
            altered.append(f"the plan that was frozen {plan.when} ({plan.digest[:SHORT]}) is missing in the report")
    return replace(results, launches=tuple(launches), looks=looks, frozen=frozen), altered, notes


def computing_of_then(results: Results, stored: Json) -> tuple[Results, list[str]]:
    """Return results with the computing of the runs in a report, and notes on what of it is not checked."""
    try:
        computing, notes = results.computing.as_of(stored)
    except (TypeError, KeyError, ValueError, OverflowError, AttributeError) as error:
        raise ReportError(f"the computing in its manifest cannot be read ({type(error).__name__}).") from None
    return replace(results, computing=computing), notes


def _run_differences(stored: Any, computed: Json, uri: str) -> list[str]:
    """Return the differences between the runs of a manifest and those of the store, each by the name of its run."""
    if not isinstance(stored, dict):
        stored = {}
    gone = [str(run.get("run")) for key, run in stored.items() if key not in computed and isinstance(run, dict)]
    # Each run is a request to the store, so that the number is limited.
    fates = what_became_of(uri, gone[:_MOST_REQUESTS])
    lines = []
    for key in dict.fromkeys([*stored, *computed]):
        stored_run, computed_run = stored.get(key), computed.get(key)
        run: Any = stored_run if isinstance(stored_run, dict) else computed_run
        run_id, name = "", f"run of {key}"
        if run:
            run_id = str(run.get("run"))
            name = f"run {run_id} ({run.get('serves')}, seed {run.get('seed')})"
        if computed_run is None:
            lines.append(f"{name}: {fates.get(run_id, 'is not what the plan asks for')}")
        elif stored_run is None:
            lines.append(f"{name} is missing in the report")
        else:
            lines += differences(stored_run, computed_run, name)
    return lines


def differences(stored: Any, computed: Any, name: str) -> list[str]:
    """Return a line per difference of two values, with the names on the way to it."""
    lines = []
    if isinstance(stored, dict) and isinstance(computed, dict):
        for key in dict.fromkeys([*stored, *computed]):
            lines += differences(stored.get(key), computed.get(key), f"{name}, {key}")
    elif isinstance(stored, list) and isinstance(computed, list) and len(stored) == len(computed):
        for number, pair in enumerate(zip(stored, computed, strict=True), start=1):
            lines += differences(*pair, f"{name}, {number}")
    # In Python True equals 1 and 1 equals 1.0, but a report that shows one for the other differs.
    elif stored != computed or type(stored) is not type(computed):
        lines.append(f"{name}: {_quoted(stored, computed)} in the report, {_quoted(computed, stored)} from the runs")
    return lines


def _quoted(value: Any, counterpart: Any) -> str:
    if value is None:
        return "nothing"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if len(text) > _LONGEST_QUOTE and isinstance(counterpart, str):
        alike = _alike(text, counterpart)
        # A long text is quoted from shortly before the first character that differs, if there is one.
        if alike == min(len(text), len(counterpart)):
            alike = 0
        text = f"…{text[max(0, alike - 20) :]}"
    if len(text) > _LONGEST_QUOTE:
        text = f"{text[:_LONGEST_QUOTE]}…"
    return f"“{text}”" if isinstance(value, str) else text


def other_tools(stored: Json, current: Json) -> str:
    """Return the differences of code and tools between a report's making and this check; nothing if there are none."""
    made = stored["made_by"]
    if made == current:
        return ""
    phrases = []
    if (made.get("commit"), made.get("modified")) != (current["commit"], current["modified"]):
        phrases.append(f"commit {_commit(made)} (here {_commit(current)})")
    versions: Any = made.get("versions")
    if not isinstance(versions, dict):
        versions = {}
    for name, version in current["versions"].items():
        if versions.get(name) != version:
            phrases.append(f"{name} {versions.get(name)} (here {version})")
    return f"the report was made with {', '.join(phrases)}"


def _commit(made: Mapping[str, Any]) -> str:
    mark = "*" if made.get("modified") else ""
    return f"{made.get('commit')!s:.12}{mark}"


def rendered_again(document: Document, path: Path) -> Carried:
    """Return the content of the file that a document makes now, in the format of the report at `path`."""
    ending = "pdf" if path.read_bytes()[:5] == b"%PDF-" else "html"
    with tempfile.TemporaryDirectory(prefix="dyconv-verify-") as folder:
        # Into a folder of its own: nothing beside the report may be overwritten.
        return carried(get_renderer(ending)(document, Path(folder), "report").read_bytes())


def compare_pages(report: Carried, expected: Carried, *, exactly: bool) -> tuple[list[str], list[str]]:
    """Return the differences in what pages show, and notes on the parts that could not be checked."""
    lines = []
    if len(report.pages) != len(expected.pages):
        lines.append(f"the report has {len(report.pages)} pages, its runs make {len(expected.pages)}")
    drawn = []
    # Pages that only one side has are counted above.
    for number, (page, expected_page) in enumerate(zip(report.pages, expected.pages, strict=False), start=1):
        page_name = f"page {number}" if len(expected.pages) > 1 else "the page"
        page_lines = list(_line_differences(page_name, page.lines, expected_page.lines))
        if page.extras > expected_page.extras:
            page_lines.append(f"{page_name} carries {page.extras} notes or fields that lie on top of its words")
        # Other words draw otherwise, too: only a page with the right words is suspected of its drawing.
        if page.drawn != expected_page.drawn and not page_lines:
            drawn.append(page_name)
        lines += page_lines
    # Other versions of the tools may draw the same words otherwise, so that another drawing proves nothing then.
    if drawn and not exactly:
        return lines, [f"what {', '.join(drawn)} draw beside words (figures, lines) could not be checked"]
    for page_name in drawn:
        lines.append(f"{page_name} draws something else than its runs make, though its words are the same")
    return lines, []


def _line_differences(page_name: str, lines: Sequence[str], expected_lines: Sequence[str]) -> Iterator[str]:
    # Pages differ in a line or two, and matching takes long: equal lines at both ends are left out.
    start = _alike(lines, expected_lines)
    lines, expected_lines = lines[start:], expected_lines[start:]
    rest = _alike(lines[::-1], expected_lines[::-1])
    lines, expected_lines = lines[: len(lines) - rest], expected_lines[: len(expected_lines) - rest]
    for kind, a, b, c, d in SequenceMatcher(None, lines, expected_lines, autojunk=False).get_opcodes():
        if kind != "equal":
            words, expected_words = " / ".join(lines[a:b]), " / ".join(expected_lines[c:d])
            page_words, run_words = _quoted(words or None, expected_words), _quoted(expected_words or None, words)
            yield f"{page_name}: {page_words} is shown, {run_words} follows from the runs"


def _alike(left: Sequence[str], right: Sequence[str]) -> int:
    """Return the number of equal lines at the start of two pages, or of equal characters at that of two texts."""
    count = 0
    for left_item, right_item in zip(left, right, strict=False):
        if left_item != right_item:
            break
        count += 1
    return count


def number_count(value: Any) -> int:
    """Return the number of numbers in plain data."""
    if isinstance(value, dict):
        return sum(map(number_count, value.values()))
    if isinstance(value, list):
        return sum(map(number_count, value))
    # In Python a truth value is an integer, too.
    return int(isinstance(value, int | float) and not isinstance(value, bool))
