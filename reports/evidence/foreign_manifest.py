"""This module makes the manifest of a report on foreign results: the study, the results themselves, every number.

The results are in it, since there is no store that both sides know: whoever has the report can compute it again, and
whoever has the source can hold the copy against it (`reports.foreign.verify`). Reading it executes nothing.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ablations.errors import ReportError
from ablations.foreign_study import ForeignStudy
from ablations.planning.plan_data import study_data
from ablations.spec.fingerprint import digest
from reports.analysis.claims import JudgedClaim
from reports.analysis.summary import StudySummary, VariantSummary
from reports.collect.correctness import Correctness
from reports.collect.foreign.measurements import LARGEST, Columns, ForeignResults, Measurement, Source
from reports.collect.tracked_runs import FINISHED
from reports.content.blocks import Attachment, Document
from reports.evidence.contents import contents, finite
from reports.evidence.manifest import FOREIGN, NAME, claim_data, row_data

FORMAT = 1
"""Version of the layout, raised with each change."""

Json = dict[str, Any]
_DIGEST = "sha256"
_SECTIONS = ("made_by", "study", "results", "rows", "claims", "document")


def foreign_manifest(
    study: ForeignStudy,
    results: ForeignResults,
    summary: StudySummary,
    claims: Sequence[JudgedClaim],
    document: Document,
    made: Mapping[str, Any],
) -> Json:
    """Return the manifest of a document on foreign results; `made` is of `manifest.made_by`."""
    rows = {row.key: _row(row, study) for row in summary.variants}
    content: Json = {
        "format": FORMAT,
        "kind": FOREIGN,
        "made_by": dict(made),
        "study": study_data(study),
        "results": _results_data(results),
        "rows": rows,
        "claims": {judged.key: claim_data(judged) for judged in claims},
        "document": contents(document),
    }
    return {**content, _DIGEST: digest(content)}


def _row(row: VariantSummary, study: ForeignStudy) -> Json:
    repeats: Json = {}
    for seed in sorted({*row.values, *row.absent}):
        status = row.absent.get(seed, FINISHED)
        repeats[str(seed)] = {"status": status, study.metric: finite(row.values.get(seed))}
    return row_data(row, study.reference, repeats)


def _results_data(results: ForeignResults) -> Json:
    return {
        "source": dataclasses.asdict(results.source),
        "columns": dataclasses.asdict(results.columns),
        "metric": results.metric,
        "notes": list(results.notes),
        "measurements": list(map(_measurement_data, results.measurements)),
    }


def _measurement_data(item: Measurement) -> Json:
    data: Json = {
        "variant": item.variant,
        "seed": item.seed,
        "status": item.status,
        "value": finite(item.value),
        "origin": item.origin,
    }
    if item.checkpoint:
        data["checkpoint"] = item.checkpoint
    if item.correctness is not None:
        packed = {metric: base64.b64encode(bits).decode() for metric, bits in item.correctness.packed.items()}
        data["correct"] = {**dataclasses.asdict(item.correctness), "packed": packed}
    return data


def with_foreign_manifest(document: Document, content: Json) -> Document:
    """Return a document that carries its manifest."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    description = "the results and every statistic behind this report; the verb verify reads it"
    return replace(document, attachments=(Attachment(NAME, "application/json", description, text),))


def read_foreign_manifest(text: str) -> Json | None:
    """Return the manifest of a report on foreign results; `None` if a text is that of another report, or is none.

    Raises:
        ReportError: If it has another format, or is not laid out like one.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or content.get("kind") != FOREIGN:
        return None
    if content.get("format") != FORMAT:
        raise ReportError(
            f"its manifest has format {content.get('format')!r}, this version reads {FORMAT}. Use the version it names."
        )
    if not all(isinstance(content.get(section), dict) for section in _SECTIONS):
        raise ReportError("its manifest is not laid out like one.")
    try:
        # Content that has no digest, for example with a number beyond all floats, is no manifest either.
        digest(content)
    except (TypeError, ValueError, RecursionError) as error:
        raise ReportError(f"its manifest cannot be read ({type(error).__name__}: {error}).") from None
    return content


def stated_in(content: Json) -> tuple[ForeignStudy, ForeignResults]:
    """Return the study and the results in a manifest.

    Raises:
        ReportError: If they cannot be read.
    """
    try:
        # Through JSON text: pydantic's strict mode accepts a list for a tuple only there.
        study = ForeignStudy.model_validate_json(json.dumps(content["study"]))
        data = content["results"]
        measurements = tuple(map(_measurement, data["measurements"]))
        source, columns = Source(**data["source"]), Columns(**data["columns"])
        results = ForeignResults(source, columns, str(data["metric"]), measurements, tuple(map(str, data["notes"])))
        if not all(isinstance(text, str) for text in (source.title, source.digest)) or int(source.ended) < 0:
            raise ValueError("its source is not described")
    # pydantic's ValidationError is a ValueError.
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        lines = str(error).splitlines() or [""]
        raise ReportError(f"the results in its manifest cannot be read ({type(error).__name__}: {lines[0]}).") from None
    return study, results


def _measurement(data: Mapping[str, Any]) -> Measurement:
    value = math.nan if data["value"] is None else float(data["value"])
    if abs(value) > LARGEST:
        raise ValueError("a value is infinite, or nearly")
    correctness = None
    if "correct" in data:
        stored = data["correct"]
        packed = {str(metric): base64.b64decode(bits, validate=True) for metric, bits in stored["packed"].items()}
        images, order = int(stored["images"]), stored["data"]
        if any(len(bits) != -(-images // 8) for bits in packed.values()):
            raise ValueError("a list of correct images is incomplete")
        correctness = Correctness(images, (str(order[0]), str(order[1])), str(stored["digest"]), packed)
    return Measurement(
        str(data["variant"]),
        int(data["seed"]),
        str(data["status"]),
        value,
        str(data["origin"]),
        str(data.get("checkpoint", "")),
        correctness,
    )
