"""Verdicts: each of them from made-up runs, and that a wrong claim gets another one than a right claim."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablations.claims import Claim, Contrast, better_than
from ablations.planning import Plan
from ablations.registry import available_studies
from ablations.study import InspectedNetwork, Study, Variant
from reports import verdicts
from reports.claims import WEAKEST_FIRST, JudgedClaim, Verdict, judge
from reports.statistics import estimate
from tests.reports.everything import results_of, whole_plan
from tests.reports.made_up import plan_of

Values = Mapping[str, tuple[float | None, ...]]
A_OVER_B = better_than("a", "b")

ABOVE = (2.0, 2.1, 1.9)
"""Mean 2, half width 4.3027 · 0.1 / √3 = 0.25: the interval is [1.75, 2.25]."""
AROUND = (1.0, -0.5, 1.0)
"""Mean 0.5, half width 2.15: the interval includes 0."""


def _study(*claims: Claim, metric: str = "test/top1", published: str | None = None, names: str = "abcd") -> Study:
    variants = tuple(Variant(name=name, changes={"model.num_kernels": 2 + i}) for i, name in enumerate(names))
    return Study(
        name="made_up",
        title="Made up",
        question="?",
        reference=names[0],
        variants=variants,
        claims=claims,
        metric=metric,
        published=published,
    )


def _claim(*contrasts: Contrast) -> Claim:
    return Claim(name="claim", statement="It is so.", contrasts=contrasts)


def _judge(study: Study, values: Values, seeds: int = 3) -> JudgedClaim:
    plan = plan_of(study, seeds=seeds)
    filled = {name: values.get(name, (0.0,) * seeds) for name in (variant.name for variant in study.variants)}
    (found,) = verdicts(plan, results_of(plan, filled))
    return found


def _minus(values: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(-value for value in values)


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        (ABOVE, "reproduced"),
        (AROUND, "same direction"),
        (_minus(AROUND), "not reproduced"),
        (_minus(ABOVE), "contradicted"),
        ((2.0, None, 2.0), "not enough runs"),
        ((2.0, 2.0, 2.0), "same direction"),
        ((0.0, 0.0, 0.0), "not reproduced"),
        ((-2.0, -2.0, -2.0), "not reproduced"),
    ],
)
def test_each_verdict(values: tuple[float | None, ...], verdict: Verdict) -> None:
    found = _judge(_study(_claim(*A_OVER_B)), {"a": values})
    assert found.verdict == verdict
    assert found.decisive is not None
    assert found.decisive.complete == sum(value is not None for value in values)


def test_the_interval_is_paired_and_by_hand() -> None:
    """What the seeds do to both cancels: the differences are 2.0, 2.1 and 1.9."""
    found = _judge(_study(_claim(*A_OVER_B)), {"a": (52.0, 72.1, 91.9), "b": (50.0, 70.0, 90.0)})
    assert found.decisive is not None
    difference = found.decisive.difference
    assert (difference.mean, difference.low, difference.high) == pytest.approx((2.0, 1.7516, 2.2484), abs=1e-4)
    assert difference.n == 3
    assert found.verdict == "reproduced"


def test_one_seed_is_not_enough() -> None:
    found = _judge(_study(_claim(*A_OVER_B)), {"a": (50.0,)}, seeds=1)
    assert found.verdict == "not enough runs"
    assert found.decisive is not None
    assert (found.decisive.difference.mean, found.decisive.difference.has_interval) == (50.0, False)


def test_a_missing_repeat_of_the_other_side_counts_too() -> None:
    found = _judge(_study(_claim(*A_OVER_B)), {"a": ABOVE, "b": (0.0, 0.0, None)})
    assert found.verdict == "not enough runs"
    assert found.decisive is not None
    assert (found.decisive.difference.n, found.decisive.complete, found.decisive.expected) == (2, 2, 3)
    assert not found.decisive.difference.is_known


@pytest.mark.parametrize(
    ("margin", "verdict"),
    [
        (1.5, "reproduced"),
        (1.9, "same direction"),
        (2.1, "not reproduced"),
        (2.5, "contradicted"),
        (-0.5, "reproduced"),
    ],
)
def test_the_margin_is_what_is_compared_with(margin: float, verdict: Verdict) -> None:
    assert _judge(_study(_claim(*better_than("a", "b", margin=margin))), {"a": ABOVE}).verdict == verdict


def test_a_swapped_contrast_is_contradicted() -> None:
    values = {"a": ABOVE}
    assert _judge(_study(_claim(*better_than("a", "b"))), values).verdict == "reproduced"
    assert _judge(_study(_claim(*better_than("b", "a"))), values).verdict == "contradicted"


def test_where_lower_is_better_the_sign_turns() -> None:
    found = _judge(_study(_claim(*A_OVER_B), metric="test/loss"), {"a": ABOVE})
    assert found.verdict == "contradicted"
    assert found.decisive is not None
    assert found.decisive.difference.mean == pytest.approx(-2.0)


def test_several_variants_are_averaged_and_none_is_zero() -> None:
    two = Contrast(better=("a", "b"), worse=("c", "d"))
    values = {"a": (4.0, 4.2, 3.8), "b": (2.0, 2.0, 2.0), "c": (1.0, 1.0, 1.0), "d": (3.0, 3.0, 3.0)}
    found = _judge(_study(_claim(two)), values)
    assert found.decisive is not None
    assert found.decisive.difference.mean == pytest.approx(1.0)
    alone = _judge(_study(_claim(Contrast(better=("a",)))), values)
    assert alone.decisive is not None
    assert alone.decisive.difference.mean == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("b", "c", "verdict", "decided_by"),
    [
        (AROUND, _minus(ABOVE), "contradicted", "c"),
        (_minus(AROUND), (1.0, None, 1.0), "not reproduced", "b"),
        ((1.0, None, 1.0), AROUND, "not enough runs", "b"),
        (ABOVE, AROUND, "same direction", "c"),
        ((9.0, 9.1, 8.9), ABOVE, "reproduced", "c"),
        ((-9.0, -9.1, -8.9), _minus(ABOVE), "contradicted", "b"),
    ],
)
def test_the_weakest_contrast_decides(b: tuple[float], c: tuple[float], verdict: Verdict, decided_by: str) -> None:
    contrasts = (Contrast(better=("b",), worse=("a",)), Contrast(better=("c",), worse=("a",)))
    found = _judge(_study(_claim(*contrasts)), {"b": b, "c": c})
    assert found.decisive is not None
    assert (found.verdict, found.decisive.contrast.better) == (verdict, (decided_by,))


def test_rows_that_are_not_asked_are_left_out() -> None:
    claim = _claim(*better_than("a", "b", "c"))
    study = _study(claim).model_copy(update={"variants": _study(names="ab").variants})
    found = _judge(study, {"a": ABOVE})
    assert (found.verdict, found.held) == ("reproduced", 1)
    assert found.left_out == (claim.contrasts[1],)
    alone = study.model_copy(update={"variants": study.variants[:1]})
    assert (_judge(alone, {}).verdict, _judge(alone, {}).decisive) == ("not enough runs", None)


def test_each_inspected_network_has_its_verdict() -> None:
    networks = tuple(
        InspectedNetwork(name=name, label=f"τ = {tau}", changes={"train.temperature.start": float(tau)})
        for name, tau in (("low", 1), ("high", 30))
    )
    study = _study(_claim(*A_OVER_B)).model_copy(update={"networks": networks, "inspect": ("low", "high")})
    plan = plan_of(study, seeds=3)
    values: dict[str, tuple[float | None, ...]] = {
        f"{n}: {v}": (0.0, 0.0, 0.0) for n in ("low", "high") for v in "abcd"
    }
    low, high = verdicts(plan, results_of(plan, values | {"low: a": ABOVE, "high: a": _minus(ABOVE)}))
    assert (low.key, low.verdict, high.key, high.verdict) == ("low: claim", "reproduced", "high: claim", "contradicted")


def test_the_published_difference_stands_beside() -> None:
    """Published: τ = 30 69.4 (A), τ = 20 69.4 (B), static 65.4 (A)."""
    names = {"a": "tau_30", "b": "tau_20", "c": "static", "d": "nowhere"}
    claims = tuple(
        Claim(name=str(index), statement="So.", contrasts=(contrast,))
        for index, contrast in enumerate(
            (
                Contrast(better=("a",), worse=("c",)),
                Contrast(better=("a", "b"), worse=("c",)),
                Contrast(better=("a",), worse=("d",)),
            )
        )
    )
    study = _study(*claims, published="temperature")
    variants = tuple(v.model_copy(update={"published": names[v.name]}) for v in study.variants)
    plan = plan_of(study.model_copy(update={"variants": variants}), seeds=2)
    found = verdicts(plan, results_of(plan, dict.fromkeys(names, (1.0, 2.0))))
    published = [judged.decisive.published for judged in found if judged.decisive]
    assert [value and (value.value, value.confidence) for value in published] == [(4.0, "A"), (4.0, "B"), None]


def test_verdicts_are_plain_data_for_tracking() -> None:
    found = _judge(_study(_claim(*better_than("a", "b", margin=0.5))), {"a": ABOVE}).as_record()
    numbers = {key: found.pop(key) for key in ("difference", "low", "high")}
    assert numbers == pytest.approx({"difference": 2.0, "low": 1.7516, "high": 2.2484}, abs=1e-4)
    names = {"study": "made_up", "claim": "claim", "verdict": "reproduced", "better": "a", "worse": "b"}
    assert found == {**names, "margin": 0.5, "n": 3}


def test_a_claim_about_no_variant_is_refused() -> None:
    with pytest.raises(ValueError, match="'z'"):
        _study(_claim(*better_than("a", "z")))


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=6), st.floats(-10, 10))
def test_the_opposite_claim_has_the_opposite_verdict(values: list[float], margin: float) -> None:
    there = judge(estimate(values), margin)
    back = judge(estimate([-value for value in values]), -margin)
    opposite = {"reproduced": "contradicted", "contradicted": "reproduced"}
    assert back == opposite[there] if there in opposite else back not in opposite


@given(st.lists(st.floats(-100, 100), max_size=6), st.floats(-10, 10), st.floats(0, 10))
def test_asking_for_more_never_makes_it_stronger(values: list[float], margin: float, more: float) -> None:
    strength = [WEAKEST_FIRST.index(judge(estimate(values), m)) for m in (margin, margin + more)]
    assert strength[0] >= strength[1]


def _levels(plan: Plan, claim: Claim, level: float) -> dict[str, tuple[float | None, ...]]:
    """Made-up runs in which all that the claim calls better lies at `level`, and all else at 0."""
    better = {name for contrast in claim.contrasts for name in contrast.better}
    seeds = (level, level + 0.1, level - 0.1, level, level)
    return {cell.key: seeds if cell.variant in better else (0.0,) * len(seeds) for cell in plan.cells}


@pytest.mark.parametrize(("level", "verdict"), [(10.0, "reproduced"), (-10.0, "contradicted")])
@pytest.mark.parametrize("study", available_studies())
def test_every_registered_claim_can_hold_and_can_fail(study: str, level: float, verdict: Verdict) -> None:
    plan = whole_plan("small", study)
    for claim in plan.studies[0].claims:
        found = verdicts(plan, results_of(plan, _levels(plan, claim, level)))
        assert {judged.verdict for judged in found if judged.claim == claim} == {verdict}
