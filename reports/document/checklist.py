"""This module answers the questions about experiments of the NeurIPS paper checklist from a plan and its runs.

The questions are in our words, in the order of the checklist (https://neurips.cc/public/guides/PaperChecklist), and one
about planning is added. An answer says what the runs show. What they cannot show, such as an open repository, is left
to the authors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from ablations.launches import measured_duration
from ablations.planning.plan import Plan
from ablations.spec.fingerprint import SHORT
from reports.analysis.claims import JudgedClaim, primary_level
from reports.analysis.protocol import deviations, frozen_of
from reports.analysis.summary import StudySummary
from reports.collect.computing.accounted import AccountedRun
from reports.collect.results import Results
from reports.collect.tracked_runs import FINISHED
from reports.content.blocks import Section, Table, Text, Tone
from reports.content.plan_words import data_words, enumerated, epochs_words, plural, repeats_of
from reports.document.computing import energy_words, sum_words
from reports.document.prose import FEW_SEEDS, caveats
from reports.document.protocol import NOT_FROZEN
from reports.tables.cells import columns_of
from reports.tables.claims import verdict_counts
from reports.tables.uncertainty_words import coverage_words

Answer = Literal["yes", "partly", "no", "not applicable"]
_TONES: dict[Answer, Tone] = {"yes": "good", "partly": "fair", "no": "bad", "not applicable": "quiet"}
_CAPTION = (
    "The questions about experiments of the NeurIPS paper checklist (neurips.cc/public/guides/PaperChecklist), in our "
    "words, and what the runs answer. “No” where a reader cannot have it from these runs, whatever the reason."
)
_GIBIBYTE = 2**30


@dataclass(frozen=True)
class ChecklistEntry:
    """A question with its answer and the sentences that it rests on.

    Attributes:
        name: The name of the item in the checklist.
        question: The question in our words.
    """

    name: str
    question: str
    answer: Answer
    grounds: str


def checklist_section(
    plan: Plan, results: Results, summaries: Sequence[StudySummary], claims: Sequence[JudgedClaim]
) -> Section:
    """Return the appendix's section with the checklist."""
    rows = []
    for entry in checklist(plan, results, summaries, claims):
        answer = Text(entry.answer, tone=_TONES[entry.answer])
        rows.append((Text(f"{entry.name}: {entry.question}"), answer, Text(entry.grounds)))
    columns = columns_of("text", "question", "answer", "from the runs")
    # A rule above each row but the first: the answers take several lines each.
    table = Table("Checklist", _CAPTION, columns, tuple(rows), rules=tuple(range(1, len(rows))))
    return Section("Checklist", (table,))


def checklist(
    plan: Plan, results: Results, summaries: Sequence[StudySummary], claims: Sequence[JudgedClaim]
) -> tuple[ChecklistEntry, ...]:
    """Return the questions with their answers, in the order of the checklist."""
    return (
        _claims(plan, claims),
        _planning(plan, results),
        _limitations(plan, results),
        _reproducibility(plan, results),
        _data_and_code(plan, results),
        _settings(plan),
        _significance(plan, summaries),
        _resources(results),
    )


def _claims(plan: Plan, claims: Sequence[JudgedClaim]) -> ChecklistEntry:
    name, question = "Claims", "Does a verdict by a fixed rule stand for each claim that the report makes?"
    if not claims:
        grounds = "The studies make no claim: the report describes what was measured."
        return ChecklistEntry(name, question, "not applicable", grounds)
    unjudged = [judged.key for judged in claims if not judged.contrasts]
    ranks = [judged.rank for judged in claims]
    grounds = (
        f"{len(claims)} {plural(len(claims), 'claim')}, {ranks.count('primary')} primary, each with the contrasts and "
        f"the size of interest that decide it: {verdict_counts(claims)}."
    )
    answer: Answer = "yes"
    if unjudged:
        answer = "partly"
        grounds += f" This preset asks no contrast of {enumerated(unjudged)}."
    return ChecklistEntry(name, question, answer, grounds)


def _planning(plan: Plan, results: Results) -> ChecklistEntry:
    name, question = "Planning", "Was this planned before it was run? (not an item of NeurIPS)"
    # No plan at all is a no, while a plan with deviations is still a plan.
    frozen = frozen_of(results)
    if frozen is None:
        return ChecklistEntry(name, question, "no", f"{NOT_FROZEN[0].upper()}{NOT_FROZEN[1:]}.")
    count = len(deviations(plan, results))
    identity = f"plan frozen {frozen.when}, SHA-256 {frozen.digest[:SHORT]}"
    if count:
        return ChecklistEntry(name, question, "partly", f"{count} {plural(count, 'deviation')} from the {identity}.")
    return ChecklistEntry(name, question, "yes", f"As planned: {identity}.")


def _limitations(plan: Plan, results: Results) -> ChecklistEntry:
    datasets = sorted({node.spec.data.facts.title for node in (*plan.trials.values(), *plan.networks.values())})
    cautions = len(list(caveats(plan, results)))
    grounds = f"{cautions or 'No'} {plural(cautions, 'caution')} on page 1; each table names what it leaves out."
    if datasets:
        grounds += f" All numbers are on {enumerated(datasets)}; nothing here says how far they carry to other data."
    question = "Does the report say where its numbers do not hold?"
    return ChecklistEntry("Limitations", question, "yes", grounds)


def _reproducibility(plan: Plan, results: Results) -> ChecklistEntry:
    # Counted networks are cells of another table, and a reader needs them, too.
    statuses = [*results.cells["status"], *results.costs["status"]]
    missing = len(statuses) - statuses.count(FINISHED)
    runs, without_code = len(results.runs), _without_code(results)
    unrecorded = list(results.runs["versions"]).count({})
    grounds = (
        f"{runs:,} {plural(runs, 'run')} with fingerprint, seed, settings and metrics, in the appendix and the "
        "manifest; the verb verify computes every number from them again. Trained again by the same code and versions "
        "on the same kind of machine, a run gives the same bits on a CPU."
    )
    answer: Answer = "yes"
    if missing:
        answer = "partly"
        grounds += f" {missing:,} of {len(statuses):,} cells have no value."
    if unrecorded:
        answer = "partly"
        grounds += f" {unrecorded:,} of the runs recorded no versions."
    if without_code:
        # Without its code, no run can be made again; where some have theirs, a part of the numbers can.
        answer = "no" if without_code == runs else "partly"
        grounds += f" No commit holds the code of {without_code:,} of them."
    question = "Can a reader make the main numbers again?"
    return ChecklistEntry("Experimental result reproducibility", question, answer, grounds)


def _without_code(results: Results) -> int:
    """Return the number of runs whose code no commit holds: that of a modified working tree, or of no repository."""
    count = 0
    for commit, dirty in zip(results.runs["commit"], results.runs["dirty"], strict=True):
        if dirty or commit in ("", "unknown"):
            count += 1
    return count


def _data_and_code(plan: Plan, results: Results) -> ChecklistEntry:
    phrases = []
    unnamed = 0
    # Of a network that is only counted, no data are read.
    measured = (*plan.trials.values(), *plan.networks.values())
    for facts in dict.fromkeys(node.spec.data.facts for node in measured):
        if facts.digest:
            phrases.append(f"{facts.title}, SHA-256 {facts.digest[:SHORT]}")
        else:
            phrases.append(f"{facts.title}, without a digest")
            unnamed += 1
    commits = sorted({commit[:7] or "unknown" for commit in results.runs["commit"]})
    grounds = f"Data: {'; '.join(phrases) or 'none'}. Code: {plural(len(commits), 'commit')} {', '.join(commits)}."
    answer: Answer = "partly" if unnamed else "yes"
    without_code = _without_code(results)
    if without_code:
        answer = "no"
        grounds += f" {without_code:,} of {len(results.runs):,} runs come from code that no commit holds."
    grounds += " Whether the repository is open to readers is for its authors to say."
    return ChecklistEntry("Open access to data and code", "Do the runs name the very data and code?", answer, grounds)


def _settings(plan: Plan) -> ChecklistEntry:
    name, question = "Experimental setting", "Are splits, settings, and the way they were chosen, stated?"
    specs = [node.spec for node in plan.trials.values()]
    if not specs and not plan.networks:
        grounds = "Nothing is trained or evaluated: networks are counted and timed, with the settings in the appendix."
        return ChecklistEntry(name, question, "yes", grounds)
    measured = specs or [node.spec for node in plan.networks.values()]
    splits = [data_words(measured, "test")]
    if specs:
        splits = [data_words(specs, "train"), data_words(specs, "validation"), *splits]
    grounds = f"{'; '.join(splits)}. "
    if specs:
        optimizers = sorted({spec.train.optimizer for spec in specs})
        tuning = "Nuisance settings were tuned on the validation split" if plan.tuned else "Settings were not tuned"
        grounds += f"{epochs_words(specs)} of {enumerated(optimizers)}. {tuning}. "
    grounds += "Every setting, defaults included, is in the appendix under “Configuration” and in the manifest."
    if plan.networks:
        count = len(plan.networks)
        grounds += f" How {count} {plural(count, 'network')} from elsewhere were trained is not known."
        return ChecklistEntry(name, question, "partly", grounds)
    return ChecklistEntry(name, question, "yes", grounds)


def _significance(plan: Plan, summaries: Sequence[StudySummary]) -> ChecklistEntry:
    name, question = "Statistical significance", "Are there error bars, and is it said what they are of?"
    measured = [study for study in plan.studies if not study.is_about_cost]
    if not measured:
        return ChecklistEntry(name, question, "not applicable", "Counts are exact, and no accuracy is compared.")
    deltas = []
    missing = 0
    for summary in summaries:
        missing += summary.missing
        for row in summary.variants:
            if row.delta is not None and row.delta.has_interval:
                deltas.append(row.delta)
    if not deltas:
        grounds = "No difference has an interval: that takes two seeds, or images, that do not agree exactly."
        return ChecklistEntry(name, question, "no", f"{_repeats(plan)} {grounds}")
    cover = coverage_words(deltas) or "over seeds, or over test images too where marked"
    grounds = (
        f"{_repeats(plan)} {len(deltas)} differences have a 95 % interval {cover}; the appendix says how it is "
        "computed. Stars are corrected by Holm over each table, primary claims by Bonferroni "
        f"(level {100 * primary_level(plan):.2f} %)."
    )
    answer: Answer = "yes"
    # An interval over images or two seeds is correct, and yet silent about other trainings.
    if any(study.trains_nothing or repeats_of(plan, study) < FEW_SEEDS for study in measured):
        answer = "partly"
        grounds += " Of what other trainings would have given, that says almost nothing."
    if missing:
        answer = "partly"
        grounds += f" {missing:,} repeats are missing, and their rows have no mean."
    return ChecklistEntry(name, question, answer, grounds)


def _repeats(plan: Plan) -> str:
    """Return a sentence on the numbers of seeds, and on networks that were trained elsewhere, of which there is one."""
    seeds = sorted({repeats_of(plan, study) for study in plan.studies if not study.trains_nothing})
    sentences = []
    if seeds:
        sentences.append(f"Seeds per variant: {' or '.join(map(str, seeds))}; ± is the standard deviation over them.")
    if plan.networks:
        sentences.append("There is one of each network that was trained elsewhere.")
    return " ".join(sentences)


def _resources(results: Results) -> ChecklistEntry:
    counted = results.computing.counted
    unrecorded = sum(not run.machine for run in counted)
    untimed = sum(run.seconds is None for run in counted)
    sentences = [*_machines(counted), *_times(counted), sum_words(results.computing)]
    sentences.append(f"Energy: {energy_words(results)}")
    answer: Answer = "yes"
    if unrecorded or untimed:
        answer = "partly"
        sentences.append(f"{unrecorded:,} runs recorded no machine, {untimed:,} no time.")
    # A time without any machine answers no question about resources.
    if unrecorded == len(counted):
        answer = "no"
    question = "Is it said on what machines, with how much memory and in what time, failed runs included?"
    return ChecklistEntry("Compute resources", question, answer, " ".join(sentences))


def _machines(runs: Sequence[AccountedRun]) -> Iterator[str]:
    """Yield sentences on the devices of some runs and on the memory that they took."""
    machines = sorted({(run.gpu, run.machine) for run in runs if run.machine})
    if machines:
        phrases = [f"{'GPU' if gpu else 'CPU'} {machine}" for gpu, machine in machines]
        yield f"Workers: {'; '.join(phrases)}."
    peaks = []
    main_memory = max((run.memory for run in runs), default=0)
    gpu_memory = max((run.gpu_memory for run in runs), default=0)
    if main_memory:
        peaks.append(f"{main_memory / _GIBIBYTE:.2f} GiB of main memory")
    if gpu_memory:
        peaks.append(f"{gpu_memory / _GIBIBYTE:.2f} GiB of a GPU's memory")
    if peaks:
        yield f"A worker took at most {enumerated(peaks)}."


def _times(runs: Sequence[AccountedRun]) -> Iterator[str]:
    """Yield a sentence on the device time of a single training."""
    # Trainings only: with evaluations among them a median would describe neither.
    seconds = sorted(run.seconds for run in runs if run.kind == "trial" and run.seconds is not None)
    if seconds:
        shortest, longest = measured_duration(seconds[0]), measured_duration(seconds[-1])
        yield f"A training took {measured_duration(median(seconds))} (median; {shortest} to {longest})."
