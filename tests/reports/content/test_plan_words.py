"""Networks in words: the paper's layers first, other dynamic ones next, static ones last."""

from __future__ import annotations

from typing import Any

from ablations.published import get_published
from ablations.spec.trial import TrialSpec, resolve
from ablations.study import Study, Variant
from reports.content.plan_words import network_words
from reports.tables.study import comparability
from tests.reports.made_up import plan_of


def _spec(**changes: Any) -> TrialSpec:
    return resolve([], {key.replace("__", "."): value for key, value in changes.items()}, 0)


def test_static_networks_come_last_and_those_of_the_paper_first() -> None:
    static, condconv, dynamic = _spec(model__layer="static"), _spec(model__layer="condconv"), _spec()
    size = "MobileNetV2 ×0.35 depth 0.5"
    assert network_words([static, condconv]) == f"CondConv-{size} K=4 and {size}"
    assert network_words([static, condconv, dynamic]) == f"DY-{size} K=4 and CondConv-{size} K=4 and {size}"


def test_a_study_of_another_kind_is_compared_by_that_and_not_by_its_baseline() -> None:
    variants = (
        Variant(name="none", changes={"model.layer": "static"}),
        Variant(name="routed", changes={"model.layer": "condconv"}),
    )
    study = Study(name="routing", title="Routing", question="q", reference="none", variants=variants)
    words = comparability(study, plan_of(study), get_published("temperature"))
    assert "CondConv-MobileNetV2" in words
    assert ", MobileNetV2" not in words
