"""This module computes the sentences of a report from a plan and its results: scale, reading of a table, cautions.

They say what the numbers say and no more; verdicts on published findings are made in `reports.analysis.claims`.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ablations.launches import measured_duration
from ablations.metrics import MetricFacts
from ablations.planning.nodes import Node
from ablations.planning.plan import Plan
from ablations.spec.trial import TrialSpec
from ablations.study import Study
from reports.analysis.statistics import Estimate
from reports.analysis.summary import StudySummary, VariantSummary
from reports.collect.computing.accounted import total_seconds
from reports.collect.results import Results
from reports.collect.tracked_runs import FINISHED
from reports.content.blocks import Paragraph
from reports.content.formatting import interval, number
from reports.content.plan_words import (
    ELSEWHERE,
    data_words,
    enumerated,
    epochs_words,
    file_words,
    network_titles,
    network_words,
    plural,
    repeats_of,
    setting_words,
    short_titles,
)
from reports.tables.machines import MACHINE
from reports.tables.uncertainty_words import coverage_words

FEW_SEEDS = 3
"""Fewest seeds whose spread means something."""
_MOST_QUOTED = 3
"""Most rows that a reading names; the table beside it shows which they are."""
_MOST_LISTED = 8
"""Most rows that are named; the number of rows stands beside the names anyway."""


def run_facts(plan: Plan, results: Results) -> tuple[tuple[str, str], ...]:
    """Return facts about the runs, as names and values."""
    specs = [node.spec for node in (*plan.trials.values(), *plan.networks.values())]
    preset = plan.request.preset
    # A plan of cost studies alone trains nothing.
    data, networks = "none: networks are counted and timed", "those of the table"
    if specs:
        data, networks = _data(plan, specs), "; ".join(_networks(plan))
    facts = {
        "Preset": f"{preset.name} ({preset.summary})",
        "Overrides": ", ".join(_settings(plan.request.overrides)) or "none",
        "Data": data,
        "Networks": networks,
        "Repeats": _repeats(plan),
        "Runs": _counts(plan, results),
        "Newest run": when(results.newest),
    }
    return tuple(facts.items())


def scale_facts(plan: Plan, results: Results) -> tuple[tuple[str, str], ...]:
    """Return the scale of a report in one line, as a name and a value: data, networks, seeds and computing."""
    specs = [node.spec for node in (*plan.trials.values(), *plan.networks.values())]
    phrases = []
    if specs:
        phrases += [_data(plan, specs), *_networks(plan)]
    counts = sorted({repeats_of(plan, study) for study in plan.studies if not study.trains_nothing})
    if plan.trials:
        phrases.append(_seeds(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds")
    if results.computing.runs:
        seconds = total_seconds(results.computing.runs)
        phrases.append(f"{measured_duration(seconds)} of computing")
    phrases.append(f"preset {plan.request.preset.name}")
    return (("Scale", "; ".join(phrases)),)


def _networks(plan: Plan) -> Iterator[str]:
    """Yield the networks that were trained here, with the length of their training, then each from elsewhere."""
    specs = [node.spec for node in plan.trials.values()]
    if specs:
        yield f"{network_words(specs)}; {epochs_words(specs)}"
    for file in file_words(plan):
        yield f"{file}, {ELSEWHERE}"


def _data(plan: Plan, specs: Iterable[TrialSpec]) -> str:
    """Return the data sets, with the cautions about files of those that lie in folders."""
    phrases = [data_words(specs)]
    for facts in plan.data_facts:
        if facts.left_out:
            phrases.append(facts.left_out)
        if facts.repeated_test_images:
            phrases.append(f"{facts.repeated_test_images:,} of the test images are among those to train on too")
    return "; ".join(phrases)


def _settings(settings: Mapping[str, Any]) -> list[str]:
    """Return settings as they stand in YAML."""
    return [setting_words(name, value) for name, value in settings.items()]


def _repeats(plan: Plan) -> str:
    """Return the studies by number of seeds, the most first."""
    names_by_count: dict[str, list[str]] = {}
    # Sorting is stable: studies of as many seeds stay in the order of the plan.
    for study in sorted(plan.studies, key=lambda study: -repeats_of(plan, study)):
        count = _seeds(repeats_of(plan, study))
        if study.is_about_cost:
            count = "counted once"
        elif study.trains_nothing:
            count = "one network, no spread between trainings"
        names_by_count.setdefault(count, []).append(study.name)
    return "; ".join(f"{count}: {', '.join(names)}" for count, names in names_by_count.items())


def _seeds(count: int) -> str:
    return f"{count} {plural(count, 'seed')}"


def _counts(plan: Plan, results: Results) -> str:
    fingerprints = set(results.runs["fingerprint"])
    counts = []
    for kind, nodes in _nodes_by_kind(plan, "evaluations of their checkpoints").items():
        if nodes:
            counts.append(f"{len(fingerprints & nodes.keys())} of {len(nodes)} {kind}")
    words = f"{_joined(counts)} are behind {len(plan.cells)} table cells"
    if results.computing.runs:
        # The computing has a line of its own, which counts all attempts and devices.
        return words
    minutes = float(results.runs["seconds"].sum()) / 60
    return f"{words}; {minutes:.1f} minutes of computing"


def _nodes_by_kind(plan: Plan, evaluations: str = "evaluations") -> dict[str, Mapping[str, Node]]:
    return {
        "trainings": plan.trials,
        "networks trained elsewhere": plan.networks,
        evaluations: plan.evaluations,
        "networks counted": plan.costs,
    }


def _joined(phrases: Sequence[str]) -> str:
    """Return `a, b and c`."""
    if len(phrases) < 2:
        return "".join(phrases)
    return f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def holes(plan: Plan, results: Results) -> str:
    """Return a sentence on the missing values of a report, or nothing where it has all."""
    missing: set[str] = set()
    for frame in (results.cells, results.costs):
        missing.update(frame.loc[frame["status"] != FINISHED, "fingerprint"])
    # A training that only serves evaluations is in no cell of its own, and is no hole.
    cells = (*plan.cells, *plan.cost_cells)
    measured = {cell.fingerprint for cell in cells}
    phrases = []
    for kind, nodes in _nodes_by_kind(plan).items():
        count = len(missing & nodes.keys())
        if count:
            phrases.append(f"{count} of {len(measured & nodes.keys())} {kind}")
    if not phrases:
        return ""
    studies = dict.fromkeys(cell.study for cell in cells if cell.fingerprint in missing)
    return (
        f"The report has holes: {' and '.join(phrases)} are missing ({', '.join(studies)}). The notes under its tables "
        "name them."
    )


def paragraphs(texts: Mapping[str, str]) -> tuple[Paragraph, ...]:
    """Return texts as paragraphs, each with its key as the heading."""
    return tuple(Paragraph(text, lead) for lead, text in texts.items())


def when(milliseconds: int) -> str:
    """Return a moment in UTC, or `unknown` for 0."""
    # 0 stands for no run at all, and would be shown as 1970.
    if not milliseconds:
        return "unknown"
    moment = datetime.datetime.fromtimestamp(milliseconds / 1000, tz=datetime.UTC)
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def caveats(plan: Plan, results: Results) -> Iterator[str]:
    """Yield the cautions for a reader of the whole report."""
    if plan.networks:
        yield (
            "A network that was trained elsewhere is measured once: there is no spread between trainings, and its "
            "intervals are over test images alone."
        )
        yield from _at_chance(plan, results)
    if plan.request.preset.name == "smoke" and plan.trials:
        yield "This is the smoke preset, made to test the software: its numbers mean nothing."
    few = {}
    for study in plan.studies:
        if not study.trains_nothing and repeats_of(plan, study) < FEW_SEEDS:
            few[study.name] = repeats_of(plan, study)
    if few:
        subject = f"{' or '.join(map(_seeds, sorted(set(few.values()))))} per variant"
        # Where the caution is about every study, no names are needed.
        if len(few) < len(plan.studies):
            subject += f" ({', '.join(few)})"
        yield f"With {subject}, spreads and intervals say almost nothing."
    if plan.left_out:
        yield f"Studies of what no row reads with these settings are left out: {', '.join(plan.left_out)}."
    yield from _mixtures(results)
    yield from results.warnings


def _at_chance(plan: Plan, results: Results) -> Iterator[str]:
    for key, node in plan.networks.items():
        if key in results.unlearned:
            yield (
                f"{node.file.name} guesses as it was loaded ({results.unlearned[key]}): its classes may stand in an "
                "order other than that of the data, its images may have been normalised otherwise, or its settings may "
                "be others than those given here."
            )


def scale_words(study: Study, plan: Plan) -> str:
    """Return a sentence on what the plan's preset and its overrides cut from a study, or nothing if that is nothing."""
    full_study, preset = study.whole, plan.request.preset
    asked = _asked_words(study, plan)
    # Of networks that were trained elsewhere a study asks all that can be asked.
    if full_study is study or study.is_on_checkpoint:
        return asked
    # The preset's cut is that of the rows that were there to ask for.
    study = study.before_rows or study
    if full_study is study:
        return asked
    cuts = []
    scale = full_study.scales.get(preset.name)
    if len(study.variants) < len(full_study.variants):
        cuts.append(f"{len(study.variants)} of {len(full_study.variants)} rows{_left_out(study)}")
    # Seeds that the user asks for win over those of the study, and these over the preset's.
    usual, actual = plan.request.seeds or full_study.seeds or preset.seeds, repeats_of(plan, study)
    # More seeds than usual, where they are cheap, leave nothing out; a single one may be what was asked for.
    if actual < usual and plan.request.seed is None:
        cuts.append(f"{_seeds(actual)} instead of {usual}")
    changes = scale.baseline if scale is not None else {}
    # A setting that the user gave is no cut of the preset's.
    cuts += _settings({key: value for key, value in changes.items() if key not in plan.request.settings})
    if not cuts:
        return asked
    conditions = f"At preset {preset.name}"
    if len(study.variants) < len(full_study.at(preset.name).variants):
        settings = ", ".join(_settings(plan.request.settings))
        conditions += f" and with {settings}, which leaves rows alike,"
    return f"{asked} {conditions} only a part of this study is asked: {'; '.join(cuts)}.".strip()


def _asked_words(study: Study, plan: Plan) -> str:
    """Return sentences on what a user left out by asking for some rows, or for one repeat; nothing if nobody did."""
    before, seed = study.before_rows, plan.request.seed
    of_seed = ""
    if seed is not None and not study.trains_nothing:
        of_seed = f"Only the repeat with seed {seed} was asked for."
    if before is None:
        return of_seed
    titles = short_titles(before)
    for variant in study.variants:
        titles.pop(variant.name)
    left_out = [f"“{title}”" for title in titles.values()]
    networks = [f"“{title}”" for name, title in network_titles(before).items() if name not in study.inspect]
    if before.networks and networks:
        left_out.append(f"all rows on {enumerated(networks)}")
    words = (
        f"Only {study.row_count} of the {before.row_count} rows of this study were asked for, with the reference. Left "
        f"out: {'; '.join(left_out)}. Spreads, stars and verdicts are of the rows that are here."
    )
    return f"{words} {of_seed}".rstrip()


def _left_out(study: Study) -> str:
    titles = short_titles(study.whole)
    for variant in study.variants:
        # What is left are the rows of the whole study that the preset has cut.
        titles.pop(variant.name, None)
    # Half a list would look like all of it.
    if len(titles) > _MOST_LISTED:
        return ""
    return f" (left out: {'; '.join(titles.values())})"


def _mixtures(results: Results) -> Iterator[str]:
    """Yield the cautions about runs of different code, versions or machines."""
    # Runs without a commit are a kind of their own: nobody knows what code they come from.
    commits = sorted({commit or "unknown" for commit in results.runs["commit"]})
    if len(commits) > 1:
        yield f"The runs come from {len(commits)} commits ({', '.join(commit[:7] for commit in commits)})."
    dirty = int(results.runs["dirty"].sum())
    if dirty:
        yield f"{dirty} of {len(results.runs)} runs come from a modified working tree: no commit holds their code."
    values_by_name: dict[str, set[str]] = {}
    for versions in results.runs["versions"]:
        for name, value in versions.items():
            values_by_name.setdefault(str(name), set()).add(str(value))
    # Machines have a sentence of their own: their results differ in bits, versions may differ in meaning.
    versions = _mixed(values_by_name, sorted(values_by_name.keys() - set(MACHINE)))
    machines = _mixed(values_by_name, MACHINE)
    if versions:
        yield f"The runs mix versions: {versions}."
    if machines:
        yield f"The runs come from different kinds of machine, whose results are not the same bits: {machines}."


def _mixed(values_by_name: Mapping[str, Collection[str]], names: Iterable[str]) -> str:
    """Return the values of the names that have several."""
    phrases = []
    for name in names:
        values = sorted(values_by_name.get(name, ()))
        if len(values) > 1:
            phrases.append(f"{name} ({', '.join(values)})")
    return "; ".join(phrases)


def reading(study: Study, summary: StudySummary) -> Iterator[str]:
    """Yield a reading of the table, a line per inspected network: extreme differences, intervals that exclude 0."""
    for network, title in network_titles(study).items():
        rows = summary.of_network(network)
        clauses = list(_clauses(study, rows))
        # A single clause says that nothing can be compared, and then there are no stars to read.
        if summary.has_stars and len(clauses) > 1:
            clauses.append(_star_words(study, rows))
        prefix = f"{title}: " if network else ""
        yield f"{prefix}{'; '.join(clauses)}."


def _star_words(study: Study, rows: tuple[VariantSummary, ...]) -> str:
    titles = short_titles(study)
    starred = [titles[row.variant] for row in rows if row.stars]
    words = _quoted(starred) or "none"
    if len(starred) > _MOST_QUOTED:
        words = f"{len(starred)} of them"
    return f"corrected over the table, p < 0.05 for {words}"


def _clauses(study: Study, rows: tuple[VariantSummary, ...]) -> Iterator[str]:
    titles = short_titles(study)
    reference = next(row for row in rows if row.variant == study.reference)
    unlearned, differences = [], []
    for row in rows:
        # Before differences: a training that never learned says nothing of what it varies, whatever its interval.
        if row.unlearned:
            unlearned.append(titles[row.variant])
        elif row.delta and row.delta.is_known:
            differences.append((titles[row.variant], row.delta))
    if unlearned:
        verb = "is" if len(unlearned) == 1 else "are"
        yield f"{_quoted(unlearned)} never learned and {verb} not compared"
    if reference.unlearned:
        yield f"nothing can be compared with “{titles[study.reference]}”"
    elif not (differences and reference.complete):
        yield f"nothing can be compared with “{titles[study.reference]}” yet"
    else:
        # The smallest difference comes first and the largest last, as `_extremes` takes them.
        differences.sort(key=lambda item: abs(item[1].mean))
        yield from _extremes(differences, study)
        yield _interval_words(differences)


def _extremes(differences: Sequence[tuple[str, Estimate]], study: Study) -> Iterator[str]:
    name, largest = differences[-1]
    reference = short_titles(study)[study.reference]
    yield f"“{name}” differs most from “{reference}”, by {_difference(largest, study.metric_facts)}"
    if len(differences) > 1:
        name, smallest = differences[0]
        yield f"“{name}” least, by {_difference(smallest, study.metric_facts)}"


def _difference(delta: Estimate, facts: MetricFacts) -> str:
    words = f"{number(delta.mean, facts.decimals, signed=True)}{facts.unit}"
    if delta.has_interval:
        words += f" {interval(delta.low, delta.high, facts.decimals)}"
    return words


def _interval_words(differences: Sequence[tuple[str, Estimate]]) -> str:
    """Return a clause on the differences whose interval excludes 0; one for all of them where they agree."""
    excluding: list[str] = []
    including: list[str] = []
    deltas = []
    for name, delta in differences:
        if delta.has_interval:
            deltas.append(delta)
            names = excluding if delta.excludes_zero else including
            names.append(name)
    if not deltas:
        return "no difference has an interval, which takes two seeds, or images, that do not agree exactly"
    subject = f"the 95 % interval {coverage_words(deltas)}".rstrip()
    if including and excluding:
        return f"{subject} excludes 0 for {_some(excluding, deltas)} and includes it for {_some(including, deltas)}"
    verb = "excludes" if excluding else "includes"
    count, relative_clause = f"all {len(deltas)} differences", " that have one"
    if len(deltas) == 1:
        count, relative_clause = "the one difference", " that has one"
    # Where every difference has an interval, nothing sets some of them apart.
    if len(deltas) == len(differences):
        relative_clause = ""
    return f"{subject} {verb} 0 for {count}{relative_clause}"


def _some(names: Sequence[str], all_of_them: Sequence[Estimate]) -> str:
    """Return a few names, or the number of many: the table shows which."""
    if len(names) > _MOST_QUOTED:
        return f"{len(names)} of {len(all_of_them)} differences"
    return _quoted(names)


def _quoted(names: Iterable[str]) -> str:
    return _joined([f"“{name}”" for name in names])
