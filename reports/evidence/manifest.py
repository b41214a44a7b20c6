"""This module makes the manifest of a report: the request, every run behind a number, every number with its inputs.

Whoever has it and the tracking store can compute each number again (`reports.verify`). It holds data alone; reading it
executes nothing.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from typing import Any

from ablations.errors import ReportError
from ablations.planning.plan import Plan
from ablations.planning.plan_data import request_data
from ablations.spec.fingerprint import digest
from ablations.study import Study
from reports.analysis.canary import judge_canaries
from reports.analysis.claims import JudgedClaim, JudgedContrast, verdicts
from reports.analysis.factorial import Ratio, summarize_factorial
from reports.analysis.protocol import deviations
from reports.analysis.statistics import Estimate
from reports.analysis.summary import StudySummary, VariantSummary
from reports.collect.results import CELL_COLUMNS, Results
from reports.collect.tracked_runs import FINISHED
from reports.content.blocks import Attachment, Document
from reports.content.maker import Maker
from reports.content.plan_words import data_digests, experiments_of, plugins_in
from reports.evidence.contents import contents, finite, harmless
from reports.tables.appendix import MOST_RUNS, serves

FORMAT = 1
"""Version of the layout, raised with each change: code that verifies one format does not verify another."""

NAME = "manifest.json"
FOREIGN = "foreign results"
"""The kind of a manifest of results from elsewhere (`reports.evidence.foreign_manifest`); others have no kind."""
RUNS_NAME = "runs.csv"
Json = dict[str, Any]
_DIGEST = "sha256"
_RUN_COLUMNS = ("fingerprint", "run_id", "kind", "seed", "commit", "dirty", "seconds")
# Other versions of these may compute a last digit or draw a line otherwise.
_TOOLS = ("dyconv-ablations", "typst", "matplotlib", "numpy", "scipy", "statsmodels", "pandas")


def manifest(
    plan: Plan, results: Results, summaries: Sequence[StudySummary], document: Document, made: Mapping[str, Any]
) -> Json:
    """Return the manifest of a document that was made of a plan and its results; `made` is of `made_by`."""
    rows: Json = {}
    for study, summary in zip(plan.studies, summaries, strict=True):
        rows[study.name] = {row.key: _row(study, plan, row, summary.metric) for row in summary.variants}
    claims: Json = {}
    for judged in verdicts(plan, summaries):
        claims[f"{judged.study}, {judged.key}"] = claim_data(judged)
    canaries: Json = {}
    for canary in judge_canaries(plan, results):
        canaries[f"{canary.study.name}, {canary.key}"] = {
            "state": canary.state,
            "difference": estimate_data(canary.difference),
        }
    content: Json = {
        "format": FORMAT,
        "made_by": dict(made),
        "request": request_data(plan),
        "experiments": experiments_of(plan),
        "data": data_digests(plan),
        "plugins": plugins_in(plan),
        "networks": _networks(plan),
        "runs": _runs(plan, results),
        "computing": results.computing.as_mapping(),
        "launches": {launch.launch: launch.as_mapping() for launch in results.launches},
        "rows": rows,
        "claims": claims,
        "canaries": canaries,
        "effects": _effects(plan, summaries),
        "document": contents(document),
    }
    content["looks"] = [look.as_mapping() for look in results.looks]
    content["frozen"] = [frozen.content for frozen in results.frozen]
    content["deviations"] = list(deviations(plan, results))
    for optional in ("plugins", "networks", "computing", "effects", "looks", "frozen", "deviations"):
        if not content[optional]:
            # Left out, so that older manifests keep their layout and digest.
            del content[optional]
    return {**content, _DIGEST: digest(content)}


def made_by(maker: Maker) -> Json:
    """Return the code and the versions of the tools that a manifest was made with."""
    versions = {}
    for name in _TOOLS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            # Run from a folder of sources that was never installed, the project has no version of its own.
            versions[name] = "unknown"
    return {"commit": maker.commit, "modified": maker.modified, "versions": versions}


def _runs(plan: Plan, results: Results) -> Json:
    """Return the runs behind the report by fingerprint, with every metric that was read, exactly."""
    metrics = _metrics(results)
    runs = {}
    for row in results.runs.to_dict("records"):
        key = row["fingerprint"]
        runs[key] = {
            "run": row["run_id"],
            "kind": row["kind"],
            "seed": int(row["seed"]),
            "serves": serves(plan, key),
            "commit": row["commit"],
            "modified": bool(row["dirty"]),
            "ended": int(row["ended"]),
            "seconds": finite(row["seconds"]),
            "versions": row["versions"],
            "metrics": metrics.get(key, {}),
        }
        # The images themselves would be most of a manifest: their digest is enough to notice a change.
        if key in results.correctness:
            runs[key]["correctness"] = results.correctness[key].digest
    return runs


def _networks(plan: Plan) -> Json:
    """Return the files of the networks that were trained elsewhere, by the fingerprints of their nodes."""
    networks: Json = {}
    for node in plan.networks.values():
        networks[node.fingerprint] = {"file": node.file.name, **node.file.identity}
    return networks


def _metrics(results: Results) -> dict[str, Json]:
    """Return the metrics of cells, canaries and costs by fingerprint, without those that a run does not have."""
    metrics: dict[str, Json] = {}
    for frame in (results.cells, results.canaries, results.costs):
        names = [name for name in frame.columns if name not in CELL_COLUMNS]
        for row in frame[["fingerprint", *names]].to_dict("records"):
            values: Json = {}
            for name in names:
                value = finite(row[name])
                if value is not None:
                    values[str(name)] = value
            # A node that serves several cells has equal values in all of them.
            metrics[row["fingerprint"]] = values
    return metrics


def _row(study: Study, plan: Plan, row: VariantSummary, metric: str) -> Json:
    repeats = {}
    for cell in plan.cells_of_row(study.name, row.network, row.variant):
        repeats[str(cell.seed)] = {
            "fingerprint": cell.fingerprint,
            "status": row.absent.get(cell.seed, FINISHED),
            metric: finite(row.values.get(cell.seed)),
        }
    return row_data(row, study.reference, repeats)


def row_data(row: VariantSummary, reference: str, repeats: Json) -> Json:
    """Return a row as plain data: its repeats, its mean and its difference to the reference."""
    record: Json = {"reference": reference, "seeds": repeats, "value": estimate_data(row.estimate)}
    if row.delta is not None:
        p_values = {"p": finite(row.p_value), "p_holm": finite(row.p_holm)}
        record["difference"] = {**estimate_data(row.delta), **p_values, "stars": row.stars}
        if row.improvement is not None:
            record["difference"]["improvement"] = dataclasses.asdict(row.improvement)
    return record


def estimate_data(numbers: Estimate) -> Json:
    """Return an estimate as plain data."""
    values = dataclasses.asdict(numbers)
    if not numbers.images_alone:
        # Left out, so that older manifests keep their layout and digest.
        del values["images_alone"]
    for name, value in values.items():
        # JSON has neither NaN nor infinity.
        if isinstance(value, float):
            values[name] = finite(value)
    return values


def _effects(plan: Plan, summaries: Sequence[StudySummary]) -> Json:
    """Return the effects and shares of every factorial study, by its name."""
    records: Json = {}
    for study, summary in zip(plan.studies, summaries, strict=True):
        result = summarize_factorial(study, summary)
        if result is None:
            continue
        effects = {}
        for effect in result.effects:
            p_values = {"p": finite(effect.p_value), "p_holm": finite(effect.p_holm)}
            effects["*".join(effect.aliases.term)] = {
                **estimate_data(effect.estimate),
                **p_values,
                "stars": effect.stars,
            }
        shares = {}
        for share in result.shares:
            shares[share.factor] = {"value": estimate_data(share.value), "share": _ratio(share.share)}
        records[study.name] = {"effects": effects, "gain": estimate_data(result.gain), "shares": shares}
    return records


def _ratio(ratio: Ratio | None) -> Json | None:
    if ratio is None:
        return None
    return {name: finite(value) for name, value in dataclasses.asdict(ratio).items()}


def claim_data(judged: JudgedClaim) -> Json:
    """Return a verdict with its contrasts as plain data."""
    return {
        "rank": judged.rank,
        "level": judged.level,
        "verdict": judged.verdict,
        "contrasts": list(map(_contrast, judged.contrasts)),
    }


def _contrast(judged: JudgedContrast) -> Json:
    contrast = judged.contrast
    return {
        "better": list(contrast.better),
        "worse": list(contrast.worse),
        "kind": contrast.kind,
        "margin": contrast.margin,
        "size": judged.size,
        "level": judged.level,
        "verdict": judged.verdict,
        "reason": judged.reason,
        "seeds": [judged.seeds.at_least, judged.seeds.at_most],
        "difference": estimate_data(judged.difference),
    }


def with_manifest(document: Document, content: Json, plan: Plan, results: Results) -> Document:
    """Return a document that carries its manifest, and a list of its runs if they are too many for a table."""
    description = "every run, metric and statistic behind this report; the verb verify reads it"
    # Not sorted like what a digest is made of: rows and studies stand in the order in which a report has them.
    # Without white space, as it grows with every run and every cell.
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    attachments = [Attachment(NAME, "application/json", description, text)]
    if len(results.runs) > MOST_RUNS:
        attachments.append(_runs_csv(plan, results))
    return replace(document, attachments=tuple(attachments))


def _runs_csv(plan: Plan, results: Results) -> Attachment:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow((*_RUN_COLUMNS, "serves"))
    for row in results.runs.to_dict("records"):
        values = [row[name] for name in _RUN_COLUMNS]
        writer.writerow(map(harmless, [*values, serves(plan, row["fingerprint"])]))
    return Attachment(RUNS_NAME, "text/csv", "every run behind this report", buffer.getvalue(), beside=True)


def read_manifest(text: str) -> Json:
    """Return the manifest in a text, whether or not its digest is that of its content.

    Raises:
        ReportError: If it is no manifest, or one in another format.
    """
    try:
        content = json.loads(text)
        # Content that has no digest, for example with a number beyond all floats, is no manifest either.
        digest(content)
        version = content["format"]
        if content.get("kind") == FOREIGN:
            raise ReportError("it is a report on results from elsewhere, of which nothing can be run again.")
        sections = [content[name] for name in ("made_by", "request", "runs", "launches", "rows", "document")]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ReportError(f"its manifest cannot be read ({type(error).__name__}: {error}).") from None
    # After the sections are found, as a text without them is no manifest of any format.
    if version != FORMAT:
        raise ReportError(
            f"its manifest has format {version!r}, this version reads {FORMAT}. Use the version it names."
        )
    for section in sections:
        if not isinstance(section, dict):
            raise ReportError("its manifest is not laid out like one.")
    return dict(content)


def is_brief(content: Mapping[str, Any]) -> bool:
    """Return True if a manifest is that of a report in two pages."""
    document = content.get("document")
    return isinstance(document, dict) and document.get("brief") is True


def is_intact(content: Mapping[str, Any]) -> bool:
    """Return True if a manifest's digest is that of its content."""
    # A digest cannot be part of what it is a digest of.
    signed = dict(content)
    signature: str | None = signed.pop(_DIGEST, None)
    return signature == digest(signed)
