"""A request with a stopping rule: seeds of the first look, looks that later seeds do not move, and its plain data."""

from __future__ import annotations

import pytest

from ablations.errors import SpecError, StudyError
from ablations.planning.lint import lint
from ablations.planning.plan import Plan, make_plan
from ablations.planning.plan_data import plan_of, request_data
from ablations.planning.request import Request
from ablations.presets import PRESETS
from ablations.protocol.stopping import StoppingRule
from ablations.registry import get_study


def plan_with(*studies: str, preset: str = "quick", **options: object) -> Plan:
    request = Request(PRESETS[preset], **options)  # type: ignore[arg-type]
    return make_plan([get_study(name, request.base()) for name in studies], request)


def seeds_and_looks(plan: Plan) -> list[tuple[int, tuple[int, ...]]]:
    return [(plan.request.seeds_of(study), plan.request.looks_of(study)) for study in plan.studies]


def test_the_first_look_has_the_seeds_that_the_study_has_anyway() -> None:
    plan = plan_with("kernels", "aggregation", stopping=StoppingRule(20))
    assert seeds_and_looks(plan) == [(3, (3, 5, 8, 12, 20)), (9, (9, 14, 20))]


def test_it_has_three_where_a_study_has_fewer_and_the_users_number_where_there_is_one() -> None:
    assert seeds_and_looks(plan_with("kernels", preset="smoke", stopping=StoppingRule(8)))[0][0] == 3
    assert seeds_and_looks(plan_with("kernels", seeds=6, stopping=StoppingRule(20))) == [(6, (6, 9, 14, 20))]


def test_more_seeds_move_no_look() -> None:
    plan = plan_with("kernels", stopping=StoppingRule(20), seeds_by_study={"kernels": 8})
    assert seeds_and_looks(plan) == [(8, (3, 5, 8, 12, 20))]
    assert len(plan.cells_of_row("kernels", "", plan.studies[0].reference)) == 8


def test_what_trains_nothing_or_claims_nothing_has_no_look() -> None:
    plan = plan_with("cost", stopping=StoppingRule(20))
    assert seeds_and_looks(plan) == [(1, ())]
    study = get_study("kernels", Request(PRESETS["quick"]).base()).model_copy(update={"claims": ()})
    request = Request(PRESETS["smoke"], stopping=StoppingRule(20))
    assert (request.seeds_of(study), request.looks_of(study)) == (2, ())


def test_no_seeds_are_refused() -> None:
    with pytest.raises(SpecError, match="kernels"):
        plan_with("kernels", seeds_by_study={"kernels": 0})


def test_few_seeds_are_no_objection_if_more_are_added() -> None:
    objections = {item.code for item in lint(plan_with("kernels", seeds=3))}
    assert "few-seeds" in objections
    assert "few-seeds" not in {item.code for item in lint(plan_with("kernels", seeds=3, stopping=StoppingRule(20)))}


def test_its_data_make_the_same_plan_again() -> None:
    plan = plan_with("kernels", stopping=StoppingRule(12), seeds_by_study={"kernels": 5})
    again = plan_of(request_data(plan), "it")
    assert again.request == plan.request
    assert again.cells == plan.cells


def test_data_without_a_rule_stay_as_they_were() -> None:
    assert not {"stopping", "seeds_by_study"} & request_data(plan_with("kernels")).keys()


@pytest.mark.parametrize("changed", [{"stopping": {}}, {"stopping": []}, {"seeds_by_study": [3]}])
def test_data_of_no_rule_are_refused(changed: dict[str, object]) -> None:
    with pytest.raises(StudyError, match="cannot be read"):
        plan_of({**request_data(plan_with("kernels")), **changed}, "it")
