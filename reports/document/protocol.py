"""This module tells what was planned: on page 1 whether a report is as planned, in the appendix the plan and looks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ablations.planning.plan import Plan
from ablations.spec.fingerprint import SHORT
from reports.analysis.protocol import deviations, frozen_of, moment
from reports.collect.results import Results
from reports.content.blocks import Block, Facts, Items, Paragraph, Section, Table, Text
from reports.content.plan_words import plural
from reports.tables.cells import columns_of, text_cells

NOT_FROZEN = "no plan was frozen before the runs"
_LOOKS = (
    "A look is a report, or a step of a run that adds seeds until claims are decided. Looking twice at the same "
    "results is one look. Looks at single runs in MLflow are not recorded."
)
_DATED = (
    "The date is that of the clock of the machine that froze the plan. Whoever must show that it was not made up "
    "afterwards keeps the SHA-256 where others see it, for example in a registry or a message."
)


def protocol_facts(plan: Plan, results: Results) -> Iterator[tuple[str, str]]:
    """Yield what page 1 says of the plan and of the looks, as names and values."""
    frozen = frozen_of(results)
    if frozen is None:
        yield "Planned", NOT_FROZEN
    else:
        identity = f"frozen {frozen.when}, SHA-256 {frozen.digest[:SHORT]}"
        count = len(deviations(plan, results))
        if count:
            yield "Planned", f"{count} {plural(count, 'deviation')} from the plan ({identity}), listed below"
        else:
            yield "Planned", f"as planned ({identity})"
    # One report looks at all of its studies at one moment, which is one look for a reader.
    looks = sorted({look.when for look in results.looks})
    if looks:
        yield "Looks", f"{len(looks)} {plural(len(looks), 'look')} at the results, the first {moment(looks[0])}"


def deviation_blocks(plan: Plan, results: Results) -> Iterator[Block]:
    """Yield the deviations from the frozen plan; nothing if there are none, or no plan."""
    sentences = deviations(plan, results)
    if sentences:
        yield Paragraph("What is not as it was planned:", "Deviations", "caveat")
        yield Items(sentences)


def protocol_section(plan: Plan, results: Results) -> Section | None:
    """Return the section on the frozen plan and the looks, or `None` if neither is known."""
    blocks = [*_plan_blocks(results), *_look_blocks(results)]
    if not blocks:
        return None
    return Section("Plan and looks", tuple(blocks))


def _plan_blocks(results: Results) -> Iterator[Block]:
    frozen = frozen_of(results)
    if frozen is None:
        return
    rule = "a fixed number of seeds: " + _by_study(frozen.seeds)
    if frozen.adds_seeds:
        looks = {study: " → ".join(map(str, frozen.looks_of(study))) for study in frozen.studies}
        rule = "seeds are added until the primary claim of a study is decided: " + _by_study(looks)
    modified = " with changes that no commit holds" if frozen.content["modified"] else ""
    yield Facts(
        (
            ("Frozen", frozen.when),
            ("SHA-256", frozen.digest),
            ("Commit", f"{frozen.commit}{modified}"),
            ("Studies", ", ".join(frozen.studies)),
            ("Stopping rule", rule),
        )
    )
    yield Paragraph(_DATED)
    claims = frozen.content["primary_claims"]
    if claims:
        rows = []
        for claim in claims:
            rows.append(
                text_cells(claim["study"], claim["claim"], claim["statement"], f"{claim['size_of_interest']:g}")
            )
        columns = columns_of("text", "study", "primary claim", "statement", "size of interest")
        yield Table("Planned claims", "The claims that decide, as they were frozen.", columns, tuple(rows))


def _by_study(values: Mapping[str, object]) -> str:
    distinct = {str(value) for value in values.values()}
    if len(distinct) == 1:
        return distinct.pop()
    return "; ".join(f"{study} {value}" for study, value in values.items())


def _look_blocks(results: Results) -> Iterator[Block]:
    if not results.looks:
        return
    rows = []
    for look in results.looks:
        cells = f"{look.finished} of {look.planned}"
        rows.append(tuple(map(Text, (moment(look.when), look.study, str(look.seeds), cells))))
    columns = (*columns_of("text", "when", "study"), *columns_of("mark", "seeds", "cells with a value"))
    yield Table("Looks", _LOOKS, columns, tuple(rows))
