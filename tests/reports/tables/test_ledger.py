"""The ledger: counted from a plan and its runs, unequal budgets footnoted, tuned values beside what they were."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ablations.launches import measured_duration
from ablations.planning.plan import Plan
from ablations.planning.tuned_values import Spent, TunedVariant
from ablations.spec.factors import Factor
from ablations.study import Study, Variant
from reports.content.blocks import Paragraph, Table
from reports.content.formatting import set_rows
from reports.tables.ledger import fairness_section, ledger_table, tuned_table, tuning_fact
from tests.reports.everything import made_up_results, whole_plan
from tests.reports.made_up import AGGREGATION, TEMPERATURE, plan_of

RATE = Factor(low=0.001, high=0.5, log=True)


def entry(variant: str, trials: int = 12, **values: float) -> TunedVariant:
    values = values or {"learning_rate": 0.0312345}
    return TunedVariant.model_validate(
        {
            "variant": variant,
            "fingerprint": "f",
            "values": {f"train.{key}": value for key, value in values.items()},
            "base": {"train.learning_rate": 0.04, "train.weight_decay": 4e-5},
            "validation_top1": 71.25,
            "spent": Spent(budget=trials, complete=trials - 3, pruned=2, diverged=1, epochs=1020, seconds=3725.0),
            "factors": {f"train.{key}": RATE for key in values},
            "settings": {},
            "git_commit": "abc",
            "git_dirty": False,
            "time": "2026-01-01T00:00:00Z",
        }
    )


def with_tuned(plan: Plan, **entries: TunedVariant) -> Plan:
    return replace(plan, tuned={("temperature", name): one for name, one in entries.items()})


ALL = {name: entry(name) for name in ("static", "tau_20", "tau_30")}


def rows(table: Table) -> list[list[str]]:
    return [[cell.text for cell in row] for row in set_rows(table)]


def marks(table: Table) -> dict[str, tuple[str, ...]]:
    return {row[1].text: row[1].marks for row in set_rows(table) if row[1].marks}


def test_each_training_is_counted_once_with_its_repeats() -> None:
    plan = plan_of()
    results = made_up_results(plan)
    assert rows(ledger_table(plan, results)) == [
        ["Kernel aggregation", "τ = 30", "3", "6", "1 min 00 s"],
        ["", "τ = 20", "3", "6", "1 min 00 s"],
        ["Softmax temperature", "static", "3", "6", "1 min 00 s"],
        ["", "τ = 20", "3", "6", "1 min 00 s"],
        ["", "τ = 30", "3", "6", "1 min 00 s"],
    ]


def test_a_repeat_that_is_missing_is_not_counted(plan: Plan, results: Any) -> None:
    listed = {(row[0], row[1]): row[2:] for row in rows(ledger_table(plan, results))}
    assert listed["", "τ = 20"][0] == "2 of 3"
    assert listed["", "τ = 20"][1] == "4"
    assert listed["", "τ = 20"][2] == "4 s"


def test_what_tuning_took_stands_beside_the_training() -> None:
    plan = with_tuned(plan_of(TEMPERATURE), **ALL)
    table = ledger_table(plan, made_up_results(plan))
    assert [column.heading for column in table.columns if column.group == "tuning"] == [
        "trials",
        "stopped early",
        "diverged",
        "epochs",
        "time",
    ]
    assert rows(table)[0] == [
        "Softmax temperature", "static", "12", "2", "1", "1,020", "1 h 02 min", "3", "6", "1 min 00 s"
    ]  # fmt: skip
    assert not table.notes
    assert "12 trials per variant" in tuning_fact(plan)


def test_unequal_trials_are_footnoted() -> None:
    plan = with_tuned(plan_of(TEMPERATURE), **{**ALL, "static": entry("static", 5)})
    table = ledger_table(plan, made_up_results(plan))
    assert marks(table) == {"static": ("a",)}
    assert [note.mark for note in table.notes] == ["a"]
    assert "Unequal budgets" in table.notes[0].text
    assert "5 to 12 trials" in tuning_fact(plan)


def test_rows_tuned_in_other_factors_are_footnoted() -> None:
    both = {name: entry(name, learning_rate=0.1, weight_decay=1e-4) for name in ALL}
    plan = with_tuned(plan_of(TEMPERATURE), **{**both, "static": entry("static")})
    assert marks(ledger_table(plan, made_up_results(plan))) == {"static": ("c",)}


def test_other_numbers_of_epochs_are_footnoted() -> None:
    longer = Variant(name="longer", changes={"train.epochs": 3})
    study = Study(name="s", title="S", question="?", reference="a", variants=(Variant(name="a"), longer))
    third = study.model_copy(update={"variants": (*study.variants, Variant(name="b", changes={"model.width": 0.5}))})
    plan = plan_of(third)
    assert marks(ledger_table(plan, made_up_results(plan))) == {"longer": ("b",)}


def test_a_variant_that_was_not_tuned_beside_others_is_shown_as_that() -> None:
    plan = with_tuned(plan_of(TEMPERATURE), static=entry("static"))
    assert rows(ledger_table(plan, made_up_results(plan)))[1][2:7] == ["–"] * 5


def test_tuned_values_are_listed_with_what_they_were_and_their_range() -> None:
    plan = with_tuned(plan_of(TEMPERATURE), static=entry("static", learning_rate=0.0312345, weight_decay=1e-4))
    assert rows(tuned_table(plan)) == [
        ["Softmax temperature", "static", "train.learning_rate", "0.04", "0.03123", "0.001 to 0.5 (log)", "71.25"],
        ["", "", "train.weight_decay", "4e-05", "0.0001", "0.001 to 0.5 (log)", ""],
    ]


def test_the_section_says_which_factors_are_which() -> None:
    plan = with_tuned(plan_of(TEMPERATURE, AGGREGATION), **ALL)
    section = fairness_section(plan, made_up_results(plan))
    assert section is not None
    words = {block.lead: block.text for block in section.blocks if isinstance(block, Paragraph)}
    about = words["Factors of “Softmax temperature”"]
    assert about.startswith("Scientific: model.layer, train.temperature.start. Nuisance (tuned for each variant): ")
    assert "train.learning_rate, train.warmup_epochs, train.weight_decay" in about
    assert "shared, not tuned" in words["Factors of “Kernel aggregation”"]
    assert [block.title for block in section.blocks if isinstance(block, Table)] == ["Ledger", "Tuned settings"]


def test_counting_networks_needs_no_ledger() -> None:
    plan = whole_plan("quick", "cost")
    assert fairness_section(plan, made_up_results(plan)) is None


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.0, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (3599.7, "1 h 00 min"), (3.6e6 * 3, "3,000 h 00 min")],
)
def test_times_are_told_in_two_units(seconds: float, words: str) -> None:
    assert measured_duration(seconds) == words
