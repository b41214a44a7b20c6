"""This module writes the descriptions of summary runs for MLflow's UI: links to rows, their runs and the report.

A description is Markdown in which every name is literal, short enough for a tag. Nothing is sent to the store here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from urllib.parse import quote

from ablations import vocabulary as names
from ablations.study import Study
from ablations.summary_rows import SummaryRow
from runners.tracking.views import MODEL_TRAINING

_CHILDREN, _VERDICTS = "variants are among the child runs", "verdicts are in the report"
_REPEATS = "runs are in the list of trainings and evaluations"
_SPECIAL = re.compile(r"[\\`*_\[\]#|$~<>&@!]")


class Links:
    """Addresses within MLflow's UI, of one experiment."""

    def __init__(self, experiment_id: str) -> None:
        self.experiment = experiment_id

    def run(self, run_id: str) -> str:
        """Return the address of a run."""
        return f"#/experiments/{self.experiment}/runs/{run_id}"

    def artifact(self, run_id: str, path: str) -> str:
        """Return the address of a run's file."""
        return f"{self.run(run_id)}/artifacts/{quote(path)}?{MODEL_TRAINING}"

    def compare(self, run_ids: Sequence[str]) -> str:
        """Return the address of a comparison of runs, side by side."""
        runs = quote(json.dumps(list(run_ids), separators=(",", ":")), safe=",")
        experiments = quote(json.dumps([self.experiment]), safe="")
        return f"#/compare-runs?runs={runs}&experiments={experiments}&{MODEL_TRAINING}"


def study_note(
    study: Study,
    links: Links,
    run_id: str,
    children: Sequence[tuple[SummaryRow, str]],
    *,
    pages: Mapping[str, str],
    files: Sequence[str],
    verdicts: Mapping[str, str],
    longest: int,
) -> str:
    """Return the description of a study's summary run.

    Args:
        children: Its rows, each with its child run.
        pages: Addresses of lists of its runs, by their names.
        files: The report's files among its artifacts.
        longest: Characters that a tag takes; rows and verdicts beyond are left out, and the text says so.
    """
    # The HTML report first, the others in their order.
    ordered = sorted(files, key=lambda file: not file.endswith(".html"))
    anchors = [f"[{_words(_kind(file))}]({links.artifact(run_id, file)})" for file in ordered]
    ids = [child for _, child in children]
    comparison = links.compare(ids)
    # Its address names each run: half of the description, some fifty runs, is left to it.
    if len(ids) > 1 and len(comparison) <= longest // 2:
        anchors.append(f"[the variants side by side]({comparison})")
    for title, address in pages.items():
        anchors.append(f"[{_words(title)}]({address})")
    paragraphs = [f"**Question.** {_words(study.question)}"]
    if study.finding:
        kind = "Published" if study.published else "Expected"
        paragraphs.append(f"**{kind} finding.** {_words(study.finding)}")
    head, tail = [" · ".join(anchors)], "\n\n".join(paragraphs)
    judged = [f"- {_words(claim)}: **{_words(verdict)}**" for claim, verdict in verdicts.items()]
    # 200 characters for line breaks and for the sentences about what was left out.
    room = longest - sum(map(len, (*head, tail))) - 200
    # Rows are many, verdicts few: these have some of the room for certain, and what is left of it.
    rows = _fitting(_table(children, links), room - min(_length(judged), room // 4), _CHILDREN)
    claims = _fitting(judged, room - len(rows), _VERDICTS)
    return "\n\n".join(filter(None, (*head, rows, tail, claims)))[:longest]


def variant_note(study: Study, links: Links, parent: str, row: SummaryRow, longest: int) -> str:
    """Return the description of a row's run: its study, its numbers and the runs that they come from."""
    reference = study.variant(study.reference).title
    paragraphs = [f"A row of [{_words(study.title)}]({links.run(parent)}); the reference is {_words(reference)}."]
    if row.texts:
        paragraphs.append("; ".join(f"{_words(name)}: **{_words(text)}**" for name, text in row.texts.items()))
    lines = ["| seed | run | value |", "|---|---|---|"]
    for repeat in row.repeats:
        link = f"[{repeat.run_id[:8]}]({links.run(repeat.run_id)})" if repeat.run_id else "–"
        lines.append(f"| {repeat.seed} | {link} | {_words(repeat.text)} |")
    if row.repeats:
        paragraphs.append(_fitting(lines, longest - sum(map(len, paragraphs)) - 100, _REPEATS))
    return "\n\n".join(filter(None, paragraphs))[:longest]


def training_note(run_id: str, metrics: Mapping[str, float]) -> str:
    """Return the description of a training's run: its accuracy, and how its network is loaded.

    Args:
        metrics: Its measurement; the page of a run lists the metrics of its end after all others.
    """
    lines = []
    if names.TEST_TOP1 in metrics:
        lines.append(f"Test top-1 accuracy: **{metrics[names.TEST_TOP1]:.2f} %**")
    lines.append(f'The trained network: `mlflow.pyfunc.load_model("runs:/{run_id}/")`')
    return "\n\n".join(lines)


def _table(children: Sequence[tuple[SummaryRow, str]], links: Links) -> list[str]:
    if not children:
        return []
    columns: dict[str, None] = {}
    for row, _ in children:
        columns.update(dict.fromkeys(row.texts))
    lines = [f"| variant | {' | '.join(map(_words, columns))} |", f"|{'---|' * (len(columns) + 1)}"]
    for row, child in children:
        cells = [f"[{_words(row.title or row.key)}]({links.run(child)})"]
        cells += [_words(row.texts.get(name, "")) for name in columns]
        # MLflow's UI sets cells without a space between them.
        lines.append(f"| {'&emsp; | '.join(cells)} |")
    return lines


def _length(lines: Sequence[str]) -> int:
    return sum(len(line) + 1 for line in lines)


def _fitting(lines: Sequence[str], room: int, rest: str) -> str:
    """Return as many lines as fit into `room` characters, with the number of lines left out and where these are."""
    fitting: list[str] = []
    used = 0
    for line in lines:
        used += len(line) + 1
        if used > room:
            return "\n".join([*fitting, "", f"{len(lines) - len(fitting)} more {rest}."])
        fitting.append(line)
    return "\n".join(fitting)


def _kind(file: str) -> str:
    ending = file.rpartition(".")[2]
    if file.endswith("-runs.csv"):
        return "its runs"
    kinds = {"html": "report", "pdf": "report as PDF", "md": "as Markdown", "tex": "as LaTeX"}
    kinds |= {"csv": "its numbers as CSV", "json": "its numbers as JSON"}
    return kinds.get(ending, file)


def _words(text: str) -> str:
    """Return a text on one line, escaped so that Markdown shows it as it is, also in a table."""
    return _SPECIAL.sub(lambda match: f"&#{ord(match.group())};", " ".join(text.split()))
