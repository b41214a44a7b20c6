"""This module holds a report against the plan that was frozen before its runs: as planned, or every deviation.

What a plan itself shows (settings, studies, seeds) is compared by `FrozenPlan.differences`. Here is what only the
results show: repeats that are missing, runs that ended before the plan was frozen, looks that it did not provide for.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence

from ablations.planning.frozen_plan import FrozenPlan
from ablations.planning.plan import Plan
from ablations.protocol.looks import Look
from ablations.spec.fingerprint import SHORT, digest
from ablations.study import Study
from reports.collect.results import Results
from reports.content.formatting import number
from reports.content.plan_words import plural

_DIGITS = 16
_NAMED = 3
"""The most rows or looks that one sentence names."""


def looks_at(plan: Plan, results: Results, when: float) -> tuple[Look, ...]:
    """Return the look at the results of each study of a plan.

    Args:
        when: Seconds since 1970.
    """
    return tuple(_look_at(study, plan, results, when) for study in plan.studies)


def _look_at(study: Study, plan: Plan, results: Results, when: float) -> Look:
    # By its values: the same results under other run ids, for example in another store, tell nothing new.
    values = []
    planned = 0
    for (network, variant), repeats in results.repeats(study.name, study.metric).items():
        planned += len(repeats)
        for seed, repeat in repeats.items():
            if repeat.finished:
                values.append([network, variant, seed, repeat.value])
    if study.before_rows is not None:
        # Who sees some rows of a study sees a part of its results.
        planned = study.before_rows.row_count * plan.request.seeds_of(study)
    # The metric is part of the state: another metric of the same runs tells something else.
    scale = plan.request.scale
    state = digest({"study": study.name, "scale": scale, "metric": study.metric, "values": values})[:_DIGITS]
    return Look(study.name, state, float(int(when)), plan.request.seeds_of(study), len(values), planned, scale)


def frozen_of(results: Results) -> FrozenPlan | None:
    """Return the frozen plan that counts, which is the newest; `None` if none was frozen."""
    if not results.frozen:
        return None
    # The newest counts, as a plan may be mended before its runs; that it was frozen anew is told as a deviation.
    return results.frozen[-1]


def deviations(plan: Plan, results: Results) -> tuple[str, ...]:
    """Return the deviations of a report from its frozen plan, a sentence each; none if all is as planned.

    Without a frozen plan there is nothing to deviate from.
    """
    frozen = frozen_of(results)
    if frozen is None:
        return ()
    # Earlier plans are named below and not compared, as the newest one has replaced them.
    sentences = [*frozen.differences(plan)]
    for earlier in results.frozen[:-1]:
        if not earlier.is_intact:
            sentences.append(
                f"A copy of a frozen plan was edited: its SHA-256 {earlier.digest[:SHORT]} is not that of its content."
            )
            continue
        sentences.append(
            f"The plan was frozen anew: an earlier one is of {earlier.when} (SHA-256 {earlier.digest[:SHORT]})."
        )
    sentences += _missing(plan, results)
    sentences += _before(frozen, results)
    sentences += _code(frozen, results)
    sentences += _replaced(results)
    for study in plan.studies:
        looks = [look for look in results.looks if look.study == study.name]
        # A study beyond the frozen plan has no planned looks, and a sentence above calls it exploratory already.
        if study.name in frozen.studies:
            sentences += _unplanned(frozen, study, looks)
            sentences += _earlier_look(frozen, study, plan.request.seeds_of(study), looks)
    return tuple(sentences)


def _missing(plan: Plan, results: Results) -> Iterator[str]:
    for study in plan.studies:
        absent: list[str] = []
        expected = 0
        for (network, variant), repeats in results.repeats(study.name, study.metric).items():
            expected += len(repeats)
            for seed, repeat in repeats.items():
                if not repeat.finished:
                    absent.append(f"{f'{network}: ' if network else ''}{variant}, seed {seed} ({repeat.status})")
        if absent:
            yield (
                f"Study {study.name}: {len(absent)} of {expected} planned {plural(expected, 'cell')} "
                f"have no value: {_listed(absent)}."
            )


def _before(frozen: FrozenPlan, results: Results) -> Iterator[str]:
    """Yield a sentence if runs had ended when the plan was frozen, so that their results could be known."""
    # MLflow has milliseconds, a frozen plan has seconds.
    ended = results.runs["ended"] / 1000
    # The time of freezing is in whole seconds, and a run of that very second counts as one from before.
    early = int((ended < frozen.frozen_at + 1).sum())
    if early:
        yield (
            f"{early} of the {len(ended)} runs behind this report had ended before the plan was frozen: their results "
            "could be known by then."
        )


def _code(frozen: FrozenPlan, results: Results) -> Iterator[str]:
    runs = results.runs
    # A modified tree is other code even at the plan's commit, since nobody can tell what was modified.
    changed = int(((runs["commit"] != frozen.commit) | runs["dirty"].astype(bool)).sum())
    if changed and frozen.commit != "unknown":
        yield (
            f"{changed} of the {len(runs)} runs were made by other code than the plan's commit "
            f"{frozen.commit[:SHORT]}, or by code that no commit holds."
        )


def _replaced(results: Results) -> Iterator[str]:
    """Yield a sentence if results were replaced: who trains until a number pleases has chosen it."""
    count = len(results.computing.of("superseded"))
    if count:
        yield (
            f"{count} {plural(count, 'run')} of these studies {'was' if count == 1 else 'were'} done anew, and what "
            "came of the earlier one is not reported."
        )


def _unplanned(frozen: FrozenPlan, study: Study, looks: Sequence[Look]) -> Iterator[str]:
    """Yield a sentence if a study was looked at where its plan provides for no look."""
    planned = frozen.looks_of(study.name)
    # A look at a part of the results is never planned: who sees them half way can stop when they please.
    rows = len({(cell.network, cell.variant) for cell in frozen.cells if cell.study == study.name})
    unplanned = []
    for look in looks:
        # Of a study of which some rows were planned, a look at all of these is one at a part of it.
        is_complete = look.is_complete or look.finished == rows * look.seeds
        if not (is_complete and look.seeds in planned):
            unplanned.append(look)
    if not unplanned:
        return
    listing = _listed([look_words(look) for look in unplanned])
    provided = "one look, at the end"
    if len(planned) > 1:
        provided = f"looks at {', '.join(map(str, planned))} seeds"
    yield (
        f"Study {study.name} was looked at {len(unplanned)} {plural(len(unplanned), 'time')} beyond the plan "
        f"({listing}); it provides for {provided}."
    )


def _earlier_look(frozen: FrozenPlan, study: Study, seeds: int, looks: Sequence[Look]) -> Iterator[str]:
    """Yield a sentence if the report is on an earlier look of the rule: whoever saw a later one could choose."""
    most = max((look.seeds for look in looks if look.is_complete), default=0)
    # With a fixed number, dropped seeds and further looks are told as such.
    if frozen.adds_seeds and most > seeds:
        yield f"Study {study.name} was looked at with {most} seeds, {seeds} are reported: the last look counts."


def look_words(look: Look) -> str:
    """Return a look in words: `2026-11-30 20:31 UTC, 9 of 15 cells, 5 seeds`."""
    return (
        f"{moment(look.when)}, {number(look.finished, 0)} of {number(look.planned, 0)} cells, {look.seeds} "
        f"{plural(look.seeds, 'seed')}"
    )


def moment(seconds: float) -> str:
    """Return a time for people; in UTC, so that a report is the same bytes everywhere."""
    return f"{datetime.datetime.fromtimestamp(seconds, tz=datetime.UTC):%Y-%m-%d %H:%M} UTC"


def _listed(items: Sequence[str]) -> str:
    listing = "; ".join(items[:_NAMED])
    if len(items) > _NAMED:
        listing += f"; and {len(items) - _NAMED} more"
    return listing
