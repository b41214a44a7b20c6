"""Sentences computed from a plan and its results: what was run, what the table shows, what a reader must beware of.

They say what the numbers say and no more; verdicts on published findings are not made here.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator
from typing import Any

from ablations.planning import Plan
from ablations.study import Study
from ablations.vocabulary import TEST_LOSS, VAL_LOSS
from reports.facts import data_words, epochs_words, network_words
from reports.formatting import interval, number
from reports.results import Results
from reports.statistics import Estimate
from reports.summary import StudySummary, VariantSummary

FEW_SEEDS = 3


def run_facts(plan: Plan, results: Results) -> tuple[tuple[str, str], ...]:
    """Returns what was run, as names and values."""
    specs = tuple(node.spec for node in plan.trials.values())
    preset = plan.request.preset
    facts = {
        "Preset": f"{preset.name} ({preset.summary})",
        "Overrides": ", ".join(f"{key} = {_value(value)}" for key, value in plan.request.overrides.items()) or "none",
        "Data": data_words(specs),
        "Networks": f"{network_words(specs)}; {epochs_words(specs)}",
        "Repeats": "; ".join(f"{study.name}: {_seeds(plan.request.seeds_of(study))}" for study in plan.studies),
        "Trainings": _counts(plan, results),
        "Newest run": when(results.newest),
    }
    return tuple(facts.items())


def _value(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _seeds(count: int) -> str:
    return f"{count} seed{'s' if count > 1 else ''}"


def _counts(plan: Plan, results: Results) -> str:
    done = set(results.runs["fingerprint"])
    trials, evaluations = len(done & plan.trials.keys()), len(done & plan.evaluations.keys())
    spent = float(results.runs["seconds"].sum()) / 60
    return (
        f"{trials} of {len(plan.trials)} trainings and {evaluations} of {len(plan.evaluations)} evaluations of their "
        f"checkpoints are behind {len(plan.cells)} table cells; {spent:.1f} minutes of computing"
    )


def when(milliseconds: int) -> str:
    """Returns a moment in UTC, or `unknown` for 0."""
    if not milliseconds:
        return "unknown"
    moment = datetime.datetime.fromtimestamp(milliseconds / 1000, tz=datetime.UTC)
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def caveats(plan: Plan, results: Results) -> Iterator[str]:
    """Yields what a reader of the whole report must beware of."""
    if plan.request.preset.name == "smoke":
        yield "This is the smoke preset, made to test the software: its numbers mean nothing."
    fewest = min(plan.request.seeds_of(study) for study in plan.studies)
    if fewest < FEW_SEEDS:
        yield f"With {_seeds(fewest)} per variant, spreads and intervals say almost nothing."
    yield from _mixtures(results)
    yield from results.warnings


def _mixtures(results: Results) -> Iterator[str]:
    commits = sorted({commit or "unknown" for commit in results.runs["commit"]})
    if len(commits) > 1:
        yield f"The runs come from {len(commits)} commits ({', '.join(commit[:7] for commit in commits)})."
    dirty = int(results.runs["dirty"].sum())
    if dirty:
        yield f"{dirty} of {len(results.runs)} runs come from a modified working tree: no commit holds their code."
    values: dict[str, set[str]] = {}
    for versions in results.runs["versions"]:
        for name, value in versions.items():
            values.setdefault(str(name), set()).add(str(value))
    mixed = [f"{name} ({', '.join(sorted(found))})" for name, found in sorted(values.items()) if len(found) > 1]
    if mixed:
        yield f"The runs mix versions: {'; '.join(mixed)}."


def reading(study: Study, summary: StudySummary) -> Iterator[str]:
    """Yields what the table says, a line per inspected network: extreme differences, intervals that exclude 0."""
    for network in study.inspected:
        rows = summary.of_network(network.name if network else "")
        yield (f"{network.title}: " if network else "") + "; ".join(_read_rows(study, rows)) + "."


def _read_rows(study: Study, rows: tuple[VariantSummary, ...]) -> Iterator[str]:
    reference = next(row for row in rows if row.variant == study.reference)
    known = [(study.variant(row.variant).title, row.delta) for row in rows if row.complete and row.delta]
    if not (known and reference.complete):
        yield f"nothing can be compared with “{study.variant(study.reference).title}” yet"
        return
    known.sort(key=lambda item: abs(item[1].mean))
    yield from _extremes(known, study)
    yield from _interval_words(known)


def _extremes(known: list[tuple[str, Estimate]], study: Study) -> Iterator[str]:
    unit = "" if study.metric in (TEST_LOSS, VAL_LOSS) else " points"
    name, largest = known[-1]
    reference = study.variant(study.reference).title
    yield f"“{name}” differs most from “{reference}”, by {_difference(largest, unit)}"
    if len(known) > 1:
        name, smallest = known[0]
        yield f"“{name}” least, by {_difference(smallest, unit)}"


def _difference(delta: Estimate, unit: str) -> str:
    ends = f" {interval(delta.low, delta.high)}" if delta.has_interval else ""
    return f"{number(delta.mean, signed=True)}{unit}{ends}"


def _interval_words(known: list[tuple[str, Estimate]]) -> Iterator[str]:
    with_interval = [(name, delta) for name, delta in known if delta.has_interval]
    apart = [name for name, delta in with_interval if delta.excludes_zero]
    near = [name for name, delta in with_interval if not delta.excludes_zero]
    if not with_interval:
        yield "no difference has an interval, which takes two seeds that do not agree exactly"
    elif not near or not apart:
        n = len(with_interval)
        count = "the one difference" if n == 1 else f"all {n} differences"
        if n < len(known):
            count += f" that {'has' if n == 1 else 'have'} one"
        yield f"the 95 % interval {'excludes' if apart else 'includes'} 0 for {count}"
    else:
        yield f"the 95 % interval excludes 0 for {_quoted(apart)} and includes it for {_quoted(near)}"


def _quoted(names: Iterable[str]) -> str:
    *most, last = [f"“{name}”" for name in names]
    return f"{', '.join(most)} and {last}" if most else last
