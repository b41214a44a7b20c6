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

_SPECIAL = re.compile(r"[\\`*_\[\]#|$~<>&@!]")
_MOST_COMPARED = 12
"""Runs on one page of comparison; more would not be legible."""


class Links:
    """Addresses within MLflow's UI, of one experiment."""

    def __init__(self, experiment_id: str) -> None:
        self.experiment = experiment_id

    def run(self, run_id: str) -> str:
        """Return the address of a run."""
        return f"#/experiments/{self.experiment}/runs/{run_id}"

    def artifact(self, run_id: str, path: str) -> str:
        """Return the address of a run's file."""
        return f"{self.run(run_id)}/artifacts/{quote(path)}"

    def search(self, query: str) -> str:
        """Return the address of the list of runs that match."""
        return f"#/experiments/{self.experiment}/runs?searchFilter={quote(query, safe='')}"

    def compare(self, run_ids: Sequence[str]) -> str:
        """Return the address of a comparison of runs, side by side."""
        runs = quote(json.dumps(list(run_ids)), safe="")
        experiments = quote(json.dumps([self.experiment]), safe="")
        return f"#/compare-runs?runs={runs}&experiments={experiments}"


def study_note(
    study: Study,
    links: Links,
    run_id: str,
    children: Sequence[tuple[SummaryRow, str]],
    *,
    files: Sequence[str],
    verdicts: Mapping[str, str],
    longest: int,
) -> str:
    """Return the description of a study's summary run.

    Args:
        children: Its rows, each with its child run.
        files: The report's files among its artifacts.
        longest: Characters that a tag takes; rows and verdicts beyond are left out, and the text says so.
    """
    tag = names.study_tag(study.name)
    # The runs of nodes, without the summary and its rows.
    trials = f"tags.`{tag}` LIKE '%' AND tags.`{names.TAG_KIND}` != 'variant' AND tags.`{names.TAG_KIND}` != 'study'"
    # The HTML report first, the others in their order.
    ordered = sorted(files, key=lambda file: not file.endswith(".html"))
    anchors = [f"[{_words(_kind(file))}]({links.artifact(run_id, file)})" for file in ordered]
    ids = [child for _, child in children]
    if 1 < len(ids) <= _MOST_COMPARED:
        anchors.append(f"[the variants side by side]({links.compare(ids)})")
    anchors.append(f"[trainings and evaluations]({links.search(trials)})")
    paragraphs = [f"**Question.** {_words(study.question)}"]
    if study.finding:
        kind = "Published" if study.published else "Expected"
        paragraphs.append(f"**{kind} finding.** {_words(study.finding)}")
    head, tail = [" · ".join(anchors)], "\n\n".join(paragraphs)
    judged = [f"- {_words(claim)}: **{_words(verdict)}**" for claim, verdict in verdicts.items()]
    # 200 characters for line breaks and for the sentences about what was left out.
    room = longest - sum(map(len, (*head, tail))) - 200
    rows = _fitting(_table(children, links), room, "variants")
    claims = _fitting(judged, room - len(rows), "verdicts")
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
        paragraphs.append(_fitting(lines, longest - sum(map(len, paragraphs)) - 100, "runs"))
    return "\n\n".join(filter(None, paragraphs))[:longest]


def _table(children: Sequence[tuple[SummaryRow, str]], links: Links) -> list[str]:
    if not children:
        return []
    columns: dict[str, None] = {}
    for row, _ in children:
        columns.update(dict.fromkeys(row.texts))
    lines = [f"| variant | {' | '.join(map(_words, columns))} |", f"|{'---|' * (len(columns) + 1)}"]
    for row, child in children:
        # MLflow's UI sets cells without a space between them.
        cells = [f"{_words(row.texts.get(name, ''))}&emsp;" for name in columns]
        lines.append(f"| [{_words(row.title or row.key)}]({links.run(child)})&emsp; | {' | '.join(cells)} |")
    return lines


def _fitting(lines: Sequence[str], room: int, noun: str) -> str:
    """Return as many lines as fit into `room` characters, with the number of lines left out."""
    fitting: list[str] = []
    used = 0
    for line in lines:
        used += len(line) + 1
        if used > room:
            return "\n".join([*fitting, "", f"{len(lines) - len(fitting)} more {noun} are among the child runs."])
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
