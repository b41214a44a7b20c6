"""This module checks a bundle: first its bytes, then every number of its report, computed again from the runs in it.

It needs neither a tracking store nor a network nor the data. Where the code at hand, or its tools, are not those that
made the report, they may word and draw the same otherwise: then only numbers and verdicts are held against each other.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from ablations.datasets.registry import stated_facts
from ablations.errors import OptionError, ReportError
from ablations.planning.plan import Plan
from ablations.spec.fingerprint import canonical_json
from ablations.spec.identities import changes
from reports.archive.bundle import Bundle, check_bundle
from reports.bundles.packing import CARRYING, DATA_FILE, FROZEN_FILE, REPORT_FOLDER, report_files
from reports.bundles.surroundings import read_facts
from reports.collect.runs import collect
from reports.collect.stores.opening import bundle_address
from reports.content.maker import Maker
from reports.content.plan_words import plugins_in
from reports.evidence.foreign_manifest import read_foreign_manifest
from reports.evidence.manifest import NAME as MANIFEST
from reports.evidence.manifest import Json, is_intact, made_by, read_manifest
from reports.evidence.report_file import carried, read_report
from reports.foreign.verify import verify_foreign
from reports.render import FORMATS, render
from reports.render.files import write_attachments
from reports.verify import (
    Recomputed,
    Verification,
    compare_pages,
    differences,
    other_tools,
    planned,
    recompute,
    unlike_registered,
    verify,
)

_ROUNDING = 1e-9
"""Relative difference of two numbers that another version of a library may make."""
_ZERO = 1e-12
"""Difference of two numbers of which one is 0, to which no difference is small relatively."""
# The first signature is that of a file in the zip, the second that of an empty zip.
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")


def is_bundle(path: Path) -> bool:
    """Return True if a file is a zip, or is called one, and so can be no report."""
    with path.open("rb") as file:
        # By its content first: a bundle may have lost its ending on the way.
        return file.read(4) in _ZIP or path.suffix.lower() == ".zip"


def planned_in(bundle: Bundle) -> tuple[Plan, Json]:
    """Return the plan and the manifest of a bundle's report; data sets that are not here are as the bundle states them.

    Raises:
        ReportError: If the manifest cannot be read.
        AblationError: If it names something that is not known here.
    """
    stored = read_manifest(bundle.read(MANIFEST).decode("utf-8", "replace"))
    with stated_facts(read_facts(bundle.read(DATA_FILE))):
        return planned(stored), stored


def verify_file(path: Path, tracking_uri: str, maker: Maker, results: str | None = None) -> Verification:
    """Check a bundle, which needs no store, or a report in PDF or HTML against its runs.

    Args:
        tracking_uri: The store of the runs.
        results: The address of the results of a report on foreign results.

    Raises:
        OptionError: If results are given, and the report is not about foreign results.
        AblationError: As `verify_bundle`, `reports.verify.verify` and `reports.foreign.verify.verify_foreign` raise it.
    """
    if is_bundle(path):
        if results is not None:
            raise OptionError(f"{path} is a bundle, which holds its runs itself. Leave out --results.")
        return verify_bundle(path, maker)
    report = read_report(path)
    foreign = read_foreign_manifest(report.manifest)
    if foreign is not None:
        return verify_foreign(path, report, foreign, results, maker)
    if results is not None:
        raise OptionError(f"{path} is a report on runs in a tracking store. Leave out --results, and name the store.")
    return verify(path, tracking_uri, maker)


def verify_bundle(path: Path, maker: Maker) -> Verification:
    """Check each byte of a bundle, compute every number of its report again, and return the differences.

    `maker` is the code at hand.

    Raises:
        BundleError: If the file cannot be read.
        ReportError: If its manifest or one of its reports cannot be read.
        AblationError: If it names something that is not known here: a plug-in, a setting of a later version.
    """
    # Bytes come first: numbers that agree with a list that was edited would prove nothing.
    bundle, changed = check_bundle(path)
    if bundle is None or changed:
        return Verification(changed, ("nothing is computed again from a bundle that was changed",), is_readable=False)
    integrity = f"sha256 {bundle.sha256}: all {bundle.size:,} bytes of {len(bundle.names) + 1} files are as packed"
    with stated_facts(read_facts(bundle.read(DATA_FILE))):
        outcome = _computed_again(bundle, maker)
    return replace(outcome, integrity=integrity)


def _computed_again(bundle: Bundle, maker: Maker) -> Verification:
    plan, stored = planned_in(bundle)
    tools = other_tools(stored, made_by(maker))
    lines: list[str] = []
    notes: list[str] = []
    if not is_intact(stored):
        lines.append(f"{MANIFEST} was changed: its digest is not that of its content")
    if FROZEN_FILE in bundle or "frozen" in stored:
        lines += differences(stored.get("frozen"), _json(bundle, FROZEN_FILE), FROZEN_FILE)
    # A later version may have changed a study of that name; the one in the manifest is the one that is computed.
    (notes if tools else lines).extend(unlike_registered(plan))
    lines += map(str, changes(stored.get("plugins"), plugins_in(plan)))
    address = bundle_address(bundle.path)
    try:
        results = collect(plan, address)
    except ReportError as error:
        return Verification((*lines, f"nothing can be computed: {error}"), tuple(notes))
    again = recompute(plan, results, stored, address)
    lines += again.differences
    notes += again.notes
    for section in again.sections:
        section_lines, section_notes = _section_differences(stored, again.content, section, is_same_code=not tools)
        lines += section_lines
        notes += section_notes
    of_files, unlike = _file_differences(bundle, again, is_same_code=not tools)
    lines += of_files
    notes += unlike
    if tools:
        notes.append(f"{tools}.")
    return Verification(tuple(lines), tuple(notes), again.numbers, len(again.content["runs"]))


def _json(bundle: Bundle, name: str) -> Any:
    try:
        return json.loads(bundle.read(name))
    except (ValueError, RecursionError):
        raise ReportError(f"{name} in the bundle cannot be read. Get an unchanged copy.") from None


def _same_json(text: str, text_again: str) -> bool:
    """Return True if two texts are the same JSON: a page of HTML spells `<` as an escape."""
    try:
        return canonical_json(json.loads(text)) == canonical_json(json.loads(text_again))
    except (ValueError, RecursionError):
        return False


def _section_differences(
    stored: Json, computed: Json, section: str, *, is_same_code: bool
) -> tuple[list[str], list[str]]:
    """Return the differences of a section of the manifest, and a note on those that another version explains."""
    if is_same_code:
        return differences(stored.get(section), computed[section], section), []
    lines, others = [], 0
    for name, value, value_again in _leaves(stored.get(section), computed[section], section):
        numbers = isinstance(value, int | float) and isinstance(value_again, int | float)
        if numbers and math.isclose(value, value_again, rel_tol=_ROUNDING, abs_tol=_ZERO):
            continue
        # Words of the document may be worded anew; all else is data, of which a later version may have more.
        is_difference = numbers if section == "document" else value is not None and value_again is not None
        if is_difference:
            lines += differences(value, value_again, name)
        else:
            others += 1
    if not others:
        return lines, []
    return lines, [f"{section}: {others} entries are worded otherwise by this version, or are in one of them only"]


def _leaves(stored: Any, computed: Any, name: str) -> Iterator[tuple[str, Any, Any]]:
    """Yield the name and both values of each leaf in which two values differ."""
    if isinstance(stored, dict) and isinstance(computed, dict):
        for key in dict.fromkeys([*stored, *computed]):
            yield from _leaves(stored.get(key), computed.get(key), f"{name}, {key}")
    elif isinstance(stored, list) and isinstance(computed, list) and len(stored) == len(computed):
        for number, pair in enumerate(zip(stored, computed, strict=True), start=1):
            yield from _leaves(*pair, f"{name}, {number}")
    elif stored != computed:
        yield name, stored, computed


def _file_differences(bundle: Bundle, again: Recomputed, *, is_same_code: bool) -> tuple[list[str], list[str]]:
    """Return the differences of the report's files from those that its runs make now, and notes on what is not checked.

    Raises:
        ReportError: If a PDF or an HTML page of the report cannot be read.
    """
    names = [name for name in bundle.names if name.startswith(REPORT_FOLDER)]
    stem, formats = _stem_and_formats(names)
    with tempfile.TemporaryDirectory(prefix="dyconv-verify-") as folder:
        render(again.document, formats, Path(folder), stem)
        write_attachments(again.document, Path(folder), stem)
        made = report_files(Path(folder))
    lines: list[str] = []
    unlike: list[str] = []
    notes: list[str] = []
    for name in names:
        content = bundle.read(name)
        if name not in made:
            unlike.append(name)
        elif name.endswith((".pdf", ".html")) and "/figures/" not in name:
            report = carried(content)
            # The page that people read must rest on the manifest that was checked.
            if not _same_json(report.manifest, bundle.read(MANIFEST).decode("utf-8", "replace")):
                lines.append(f"{name} carries another manifest than {MANIFEST}")
            if content != made[name]:
                of_pages, unchecked = compare_pages(report, carried(made[name]), exactly=is_same_code)
                # Pages look alike, and yet the bytes are others: something was changed that they do not show.
                if not of_pages and not unchecked:
                    unlike.append(name)
                elif is_same_code:
                    lines += [f"{name}, {line}" for line in (*of_pages, *unchecked)]
                else:
                    notes.append(f"{name}: {len(of_pages) + len(unchecked)} places are not as this version makes them")
        elif content != made[name]:
            unlike.append(name)
    missing = [name for name in made if name not in names]
    if is_same_code:
        lines += [f"{name} is not the file that its runs make" for name in unlike]
        lines += [f"{name} is missing, which its runs make" for name in missing]
    elif unlike or missing:
        notes.append(f"{len(unlike) + len(missing)} files of the report are not the bytes that this version makes")
    return lines, notes


def _stem_and_formats(names: list[str]) -> tuple[str, list[str]]:
    """Return the name of the report whose files have these names, and its formats."""
    endings: dict[str, set[str]] = {}
    for name in names:
        stem, _, ending = name.removeprefix(REPORT_FOLDER).rpartition(".")
        if ending in FORMATS and "/" not in stem:
            endings.setdefault(stem, set()).add(ending)
    # A report has a format that carries its manifest; a list of its runs, which lies beside it, has none.
    stems = [stem for stem, formats in endings.items() if formats & set(CARRYING)]
    # Two reports in one bundle would have one manifest for both.
    if len(stems) != 1:
        raise ReportError("the bundle does not hold one report. Make it again with `bundle`.")
    return stems[0], [name for name in FORMATS if name in endings[stems[0]]]
