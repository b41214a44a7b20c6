"""The canary in a plan: the reference again, under seeds that no variant has, shared like any other training."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from ablations.errors import SpecError
from ablations.planning.nodes import EvaluationNode
from ablations.planning.plan import CANARY, CANARY_SEED, Plan, make_plan
from ablations.planning.request import Request
from ablations.presets import get_preset
from ablations.registry import get_study
from ablations.spec.parts import Intervention
from ablations.spec.trial import TrialSpec
from ablations.study import InspectedNetwork, Study, Variant
from runners.console.tables import plan_overview

QUICK = get_preset("quick")


def _plan(*studies: Study | str, canary: bool = True, seeds: int = 3) -> Plan:
    request = Request(QUICK, seeds=seeds, canary=canary)
    found = [get_study(study, request.base()) if isinstance(study, str) else study for study in studies]
    return make_plan(found, request)


def _trial(plan: Plan, fingerprint: str) -> TrialSpec:
    return plan.node(fingerprint).spec


def test_the_reference_again_under_other_seeds() -> None:
    plan = _plan("temperature")
    assert [(cell.study, cell.variant, cell.seed) for cell in plan.canaries] == [
        ("temperature", CANARY, CANARY_SEED + repeat) for repeat in range(3)
    ]
    reference = [cell for cell in plan.cells if cell.variant == plan.studies[0].reference]
    for canary, cell in zip(plan.canaries, reference, strict=True):
        again, first = _trial(plan, canary.fingerprint), _trial(plan, cell.fingerprint)
        assert again == first.model_copy(update={"seed": canary.seed})


def test_nothing_else_changes() -> None:
    with_one, without = _plan("temperature", "aggregation"), _plan("temperature", "aggregation", canary=False)
    assert with_one.cells == without.cells
    assert without.canaries == ()
    added = with_one.trials.keys() - without.trials.keys()
    assert with_one.trials.keys() > without.trials.keys()
    assert {with_one.trials[key].spec.seed for key in added} == {CANARY_SEED, CANARY_SEED + 1, CANARY_SEED + 2}
    assert with_one.trainings_without_sharing == without.trainings_without_sharing + len(with_one.canaries)


def test_studies_share_a_canary_as_they_share_a_reference() -> None:
    """The network τ = 1 of *aggregation* is a row of *temperature*, but not its reference."""
    alone, together = _plan("aggregation"), _plan("aggregation", "resolution")
    assert {cell.fingerprint for cell in together.canaries} == {cell.fingerprint for cell in alone.canaries}
    serves = together.studies_of(together.canaries[0].fingerprint)
    assert serves == {"aggregation": ["annealed: canary"], "resolution": ["annealed: canary"]}


def test_a_reference_that_intervenes_is_trained_and_evaluated_again() -> None:
    study = Study(
        name="mine",
        title="Mine",
        question="?",
        networks=(InspectedNetwork(name="hot", changes={"train.temperature.start": 1.0}),),
        inspect=("hot",),
        reference="average",
        variants=(Variant(name="attention"), Variant(name="average", intervention=Intervention(aggregation="average"))),
    )
    plan = _plan(study)
    assert len(plan.canaries) == 3
    for cell in plan.canaries:
        node = plan.node(cell.fingerprint)
        assert isinstance(node, EvaluationNode)
        assert node.intervention == Intervention(aggregation="average")
        assert (node.spec.seed, cell.network) == (cell.seed, "hot")
        assert node.network.fingerprint in plan.trials


def test_what_trains_nothing_has_no_canary() -> None:
    assert {cell.study for cell in _plan("cost", "temperature").canaries} == {"temperature"}
    with pytest.raises(SpecError, match="none of the studies trains anything"):
        _plan("cost")


def test_the_name_is_taken() -> None:
    study = Study(name="mine", title="Mine", question="?", reference="a", variants=(Variant(name="a"),))
    bird = study.model_copy(update={"variants": (*study.variants, Variant(name=CANARY))})
    assert _plan(bird, canary=False).canaries == ()
    with pytest.raises(SpecError, match="Rename it"):
        _plan(bird)


@pytest.mark.parametrize(("seeds", "words"), [(1, "1 training is a canary"), (3, "3 trainings are canaries")])
def test_the_plan_says_what_it_costs(seeds: int, words: str) -> None:
    out = StringIO()
    Console(file=out, width=120).print(plan_overview(_plan("temperature", seeds=seeds)))
    assert words in out.getvalue()
