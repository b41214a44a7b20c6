"""This module judges the canary: a study's reference, trained again under other seeds, must not differ from itself.

Both sides are one configuration, so whatever the interval says is about the comparison: how repeats are run, tracked,
paired and counted. What is planned is in `ablations.planning.plan`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from ablations.planning.plan import CANARY, Plan
from ablations.planning.request import CANARY_SEED
from ablations.study import Study
from reports.analysis.statistics import ALPHA, Estimate, paired_difference, unknown
from reports.analysis.summary import row_key
from reports.collect.results import Results, finished_values
from reports.collect.unlearned import quoted
from reports.content.blocks import Paragraph
from reports.content.formatting import interval, number, per_cent
from reports.content.plan_words import network_titles, short_titles

State = Literal["silent", "alarm", "unknown"]

_MEANINGS: tuple[tuple[State, str], ...] = (
    ("silent", "found no difference, as it must"),
    ("alarm", "found a difference where there is none"),
    ("unknown", "says nothing yet"),
)


@dataclass(frozen=True)
class Canary:
    """The comparison of one reference with itself, on one inspected network if the study inspects any.

    Attributes:
        difference: Mean over repeats of canary − reference: the r-th of one and the r-th of the other, which have
            nothing in common but their configuration. Its t interval is over seeds.
        expected: The number of repeats that the plan asks for.
    """

    study: Study
    network: str
    difference: Estimate
    expected: int

    @property
    def key(self) -> str:
        """Its name among a study's rows, with the inspected network in front if there is one."""
        return row_key(self.network, CANARY)

    @property
    def verdict(self) -> str:
        """The finding in words."""
        return dict(_MEANINGS)[self.state]

    @property
    def state(self) -> State:
        """`alarm` if the interval excludes 0, `unknown` without an interval."""
        if not self.difference.has_interval:
            return "unknown"
        if self.difference.excludes_zero:
            return "alarm"
        return "silent"


def judge_canaries(plan: Plan, results: Results) -> tuple[Canary, ...]:
    """Return the canaries of a plan, in the order of its studies and their networks."""
    canaries: list[Canary] = []
    for study in plan.studies:
        canaries += study_canaries(study, results)
    return tuple(canaries)


def study_canaries(study: Study, results: Results) -> tuple[Canary, ...]:
    """Return the canaries of one study, by inspected network."""
    references = results.repeats(study.name, study.metric)
    canaries = []
    for network, repeats in results.canary_repeats(study.name, study.metric).items():
        reference_values = finished_values(references[network, study.reference])
        # A canary's seeds are those of the reference plus `CANARY_SEED`; without it, the r-th repeats are paired.
        canary_values = {seed - CANARY_SEED: value for seed, value in finished_values(repeats).items()}
        pairs = len(reference_values.keys() & canary_values.keys())
        # An interval from some of the repeats would change with those that come later, so there is none yet.
        difference = unknown(pairs)
        if pairs == len(repeats):
            difference = paired_difference(canary_values, reference_values)
        canaries.append(Canary(study, network, difference, len(repeats)))
    return tuple(canaries)


def canary_paragraphs(canaries: Sequence[Canary]) -> Iterator[Paragraph]:
    """Yield a paragraph for each canary of one study, marked as an alarm where there is one."""
    for canary in canaries:
        title = f"“{short_titles(canary.study)[canary.study.reference]}”"
        network = network_titles(canary.study)[canary.network]
        if network:
            title += f" ({network})"
        text = f"{title}, trained again under other seeds, {_words(canary)}"
        if canary.state == "alarm":
            yield Paragraph(text, "Canary alarm", "alarm")
        else:
            yield Paragraph(text, "Canary", "text")


def _words(canary: Canary) -> str:
    if canary.state == "unknown":
        return _why_unknown(canary)
    wording, difference = canary.study.metric_facts, canary.difference
    ends = interval(difference.low, difference.high, wording.decimals)
    differs = f"differs from itself by {number(difference.mean, wording.decimals, signed=True)}{wording.unit} {ends}"
    if canary.state == "silent":
        return f"{differs}: the interval includes 0, as it must for one and the same configuration."
    return (
        f"{differs}: the interval excludes 0, although nothing but the seeds is different. By chance that happens to "
        f"one canary in {1 / ALPHA:.0f}. Unless more seeds silence it, do not trust the differences of this section: "
        "something other than the variants moves the results."
    )


def _why_unknown(canary: Canary) -> str:
    if not canary.difference.is_known:
        return f"has {canary.difference.n} of {canary.expected} pairs of repeats: it says nothing yet."
    # Told apart, because more repeats help against the first and not against the second.
    if canary.difference.n < 2:
        return "has one repeat and so no interval: it says nothing."
    return "differs from itself by the same in every repeat and so has no interval: it says nothing."


def canary_warning(canaries: Sequence[Canary]) -> Paragraph | None:
    """Return the warning at the top of a report, or `None` if no canary is alarmed."""
    titles = []
    for canary in canaries:
        if canary.state == "alarm":
            titles.append(canary.study.title)
    if not titles:
        return None
    return Paragraph(
        f"A reference that was trained again under other seeds differs from itself: {quoted(titles)} "
        f"({len(titles)} of {len(canaries)} canaries; each is alarmed by chance with a probability of "
        f"{per_cent(ALPHA)}). What this report says of these studies may be wrong.",
        "Canary alarm",
        "alarm",
    )


def canary_facts(canaries: Sequence[Canary]) -> str:
    """Return the counts of silent, alarmed and unknown canaries, for the box at the top of a report."""
    states = [canary.state for canary in canaries]
    facts = []
    for state, meaning in _MEANINGS:
        if state in states:
            facts.append(f"{states.count(state)} of {len(states)} {meaning}")
    return "; ".join(facts)
