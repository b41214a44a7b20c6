"""Verdicts: each of them from made-up runs, and that a wrong claim gets another one than a right claim."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablations.claims import Claim, Contrast, at_least_as_good_as, better_than
from ablations.planning.plan import Plan
from ablations.registry import available_studies
from ablations.study import InspectedNetwork, Study, Variant
from reports import verdicts
from reports.analysis.claims import JudgedClaim, JudgedContrast, Seeds, Verdict, judge, primary_level
from reports.analysis.statistics import Estimate, estimate, power_better, power_narrow
from tests.reports.everything import results_of, whole_plan
from tests.reports.made_up import plan_of

Values = Mapping[str, tuple[float | None, ...]]
A_OVER_B = better_than("a", "b")

ABOVE = (2.0, 2.1, 1.9)
"""Mean 2, half width 4.3027 · 0.1 / √3 = 0.25: the interval is [1.75, 2.25]."""
NEAR = (0.1, -0.1, 0.1)
"""Mean 0.03, half width 4.3027 · 0.1155 / √3 = 0.29: the interval includes 0 and lies within ± 1."""
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
        (AROUND, "undecided"),
        (_minus(AROUND), "undecided"),
        (_minus(ABOVE), "contradicted"),
        (NEAR, "practically the same"),
        (_minus(NEAR), "practically the same"),
    ],
)
def test_each_verdict(values: tuple[float, ...], verdict: Verdict) -> None:
    found = _judge(_study(_claim(*A_OVER_B)), {"a": values})
    assert found.verdict == verdict
    assert found.decisive is not None
    assert (found.decisive.complete, found.rank, found.level) == (3, "primary", 0.95)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ((2.0, None, 2.0), "missing repeat"),
        ((None, None, None), "missing repeat"),
        ((2.0, 2.0, 2.0), "no spread over seeds"),
        ((0.0, 0.0, 0.0), "no spread over seeds"),
        ((-2.0, -2.0, -2.0), "no spread over seeds"),
    ],
)
def test_without_an_interval_it_is_undecided_for_a_reason(values: tuple[float | None, ...], reason: str) -> None:
    found = _judge(_study(_claim(*A_OVER_B)), {"a": values})
    assert found.decisive is not None
    assert (found.verdict, found.remark, found.words) == ("undecided", reason, f"undecided: {reason}")
    assert found.decisive.complete == sum(value is not None for value in values)


def _interval(low: float, high: float) -> Estimate:
    """Return an estimate that has this interval at 95 %, of three seeds on their own."""
    error = (high - low) / 2 / 4.302652729911275
    return Estimate((low + high) / 2, error * math.sqrt(3), low, high, 3, df=2.0, error=error)


@pytest.mark.parametrize(
    ("low", "high", "better", "at_least_as_good", "same"),
    [
        (2.0, 3.0, "reproduced", "reproduced", "contradicted"),
        (0.2, 3.0, "reproduced", "reproduced", "undecided"),
        (0.2, 0.8, "reproduced", "reproduced", "reproduced"),
        (-0.2, 0.8, "practically the same", "reproduced", "reproduced"),
        (-0.2, 1.8, "undecided", "reproduced", "undecided"),
        (-1.2, 1.8, "undecided", "undecided", "undecided"),
        (-0.8, -0.2, "contradicted", "reproduced", "reproduced"),
        (-1.2, -0.2, "contradicted", "undecided", "undecided"),
        (-1.2, 0.2, "undecided", "undecided", "undecided"),
        (-3.0, -2.0, "contradicted", "contradicted", "contradicted"),
        # An end at the bound itself excludes nothing.
        (0.0, 2.0, "undecided", "reproduced", "undecided"),
        (-2.0, 0.0, "undecided", "undecided", "undecided"),
        (-1.0, 0.5, "undecided", "undecided", "undecided"),
        (-0.5, 1.0, "undecided", "reproduced", "undecided"),
        (-2.0, -1.0, "contradicted", "undecided", "undecided"),
        (1.0, 2.0, "reproduced", "reproduced", "undecided"),
    ],
)
def test_the_verdict_of_each_kind_by_hand(
    low: float, high: float, better: Verdict, at_least_as_good: Verdict, same: Verdict
) -> None:
    """The size of interest is 1."""
    found = _interval(low, high)
    assert judge(found, "better", 1.0) == better
    assert judge(found, "at_least_as_good", 1.0) == at_least_as_good
    assert judge(found, "same", 1.0) == same


@pytest.mark.parametrize(
    ("margin", "low", "high", "verdict"),
    [
        (0.5, 0.6, 2.0, "reproduced"),
        (0.5, 0.1, 2.0, "undecided"),
        (0.5, 0.1, 0.7, "practically the same"),
        (0.5, 0.1, 0.4, "contradicted"),
        (-0.1, -0.05, 2.0, "reproduced"),
        (-0.1, -0.2, 0.4, "practically the same"),
        (3.0, 1.5, 2.5, "contradicted"),
        (3.0, 2.5, 3.5, "undecided"),
    ],
)
def test_a_margin_moves_the_bound_and_not_the_size(margin: float, low: float, high: float, verdict: Verdict) -> None:
    assert judge(_interval(low, high), "better", 1.0, margin) == verdict


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((0.5, 0.45, 0.55), "reproduced, by less than the size of interest"),
        ((-0.5, -0.45, -0.55), "contradicted, by less than the size of interest"),
        (ABOVE, "reproduced"),
        (NEAR, "practically the same"),
    ],
)
def test_a_small_difference_is_told_as_small(values: tuple[float, ...], words: str) -> None:
    """0.5 ± 0.12 is beyond 0 and below the size of interest."""
    assert _judge(_study(_claim(*A_OVER_B)), {"a": values}).words == words


def test_the_seeds_that_would_decide_come_from_the_spread_of_the_contrast() -> None:
    """Of AROUND, sd 0.866 around 0.5: in any case, so many that the interval is narrower than 1 point."""
    sd, found = math.sqrt(0.75), _judge(_study(_claim(*A_OVER_B)), {"a": AROUND})
    few, many = found.seeds.at_least, found.seeds.at_most
    assert few is not None
    assert many is not None
    assert power_narrow(many, sd, 1.0) >= 0.8 > power_narrow(many - 1, sd, 1.0)
    assert power_better(few, sd, 0.5) >= 0.8 > power_better(few - 1, sd, 0.5)
    assert many < few, "in any case is more than if it is as seen, or the only number"
    assert found.words == f"undecided: {many} seeds would decide it"


@pytest.mark.parametrize(
    ("at_least", "at_most", "words"),
    [
        (4, 20, "4 to 20 seeds"),
        (20, 20, "20 seeds"),
        (30, 20, "20 seeds"),
        (None, 20, "20 seeds"),
        (1200, None, "1,200 seeds or more"),
        (None, None, "over 100,000 seeds"),
    ],
)
def test_seeds_in_words(at_least: int | None, at_most: int | None, words: str) -> None:
    assert Seeds(at_least, at_most, needed=True).words == words
    assert Seeds(at_least, at_most).words == ""


def test_a_claim_takes_as_many_seeds_as_its_neediest_contrast() -> None:
    wide = (10.0, -5.0, 10.0)
    claim = _claim(*better_than("a", "b", "c", "d"))
    found = _judge(_study(claim), {"a": (0.0,) * 3, "b": AROUND, "c": wide, "d": (*_minus(ABOVE)[:2], None)})
    by_name = {judged.contrast.worse[0]: judged for judged in found.contrasts}
    assert not by_name["d"].seeds.needed
    assert found.remark == "missing repeat"
    assert found.seeds.at_most == by_name["c"].seeds.at_most
    assert (by_name["c"].seeds.at_most or 0) > (by_name["b"].seeds.at_most or 0)


def test_a_margin_leaves_less_room_and_so_takes_more_seeds() -> None:
    counts = [
        _judge(_study(_claim(*better_than("a", "b", margin=margin))), {"a": AROUND}).seeds.at_most
        for margin in (0.0, 0.5)
    ]
    assert counts[0] is not None
    assert counts[1] is not None
    assert counts[1] > 3 * counts[0]


def test_the_size_of_interest_is_the_study_s() -> None:
    study = _study(_claim(*A_OVER_B)).model_copy(update={"size_of_interest": 0.1})
    assert _judge(study, {"a": NEAR}).verdict == "undecided"
    assert _judge(study, {"a": NEAR}).decisive is not None
    found = _judge(
        _study(_claim(*at_least_as_good_as("a", "b"))).model_copy(update={"size_of_interest": 3.0}),
        {"a": _minus(ABOVE)},
    )
    assert found.verdict == "reproduced"


def test_a_difference_at_the_bound_is_not_promised_a_verdict() -> None:
    """−1 ± 0.25 is narrow enough, and more seeds need not tell on which side of −1 it is."""
    found = _judge(_study(_claim(*at_least_as_good_as("a", "b"))), {"a": (-1.0, -1.1, -0.9)})
    assert (found.verdict, found.remark) == ("undecided", "over 100,000 seeds")
    near = _judge(_study(_claim(*at_least_as_good_as("a", "b"))), {"a": (-0.9, -1.0, -0.8)})
    assert near.seeds.at_least is not None
    assert near.remark == f"{near.seeds.at_least} seeds or more"


@pytest.mark.parametrize("covered", [False, True])
def test_no_number_of_seeds_makes_up_for_test_images(covered: bool) -> None:
    """Images alone give a half width of 1.96 · 0.5, whatever the seeds: an interval can exclude 0 at 3, not at 0.5."""
    for mean, is_far in ((0.5, False), (3.0, True)):
        found = Estimate(mean, 0.1, -1.0, 7.0, 3, covered, df=2.0, error=0.9, image_error=0.5 if covered else 0.0)
        seeds = JudgedContrast(A_OVER_B[0], "undecided", found, 0.95, 1.0, 3, 3, None).seeds
        assert (seeds.at_most is None) == covered
        assert (seeds.at_least is None) == (covered and not is_far)


def test_all_contrasts_at_the_level_or_one_at_a_stricter_one() -> None:
    """Of 2 ± 0.25 at 95 %, each is reproduced; −0.3 ± 0.25 contradicts alone, and not as one of three."""
    names, weak = ("b", "c", "d"), (-0.3, -0.4, -0.2)
    contrasts = tuple(Contrast(better=(name,), worse=("a",)) for name in names)
    alone = _judge(_study(_claim(*contrasts[:1])), {"b": weak})
    among = _judge(_study(_claim(*contrasts)), {"b": weak, "c": ABOVE, "d": ABOVE})
    assert (alone.verdict, alone.decisive and alone.decisive.level) == ("contradicted", 0.95)
    assert among.verdict == "practically the same"
    assert among.decisive is not None
    assert among.decisive.level == pytest.approx(1 - 0.05 / 3)
    # Of two degrees of freedom, t at a level is level / √((1 − level²) / 2): 7.649 at 98.33 %.
    half = (1 - 0.05 / 3) / math.sqrt((1 - (1 - 0.05 / 3) ** 2) / 2) * 0.1 / math.sqrt(3)
    assert (among.decisive.difference.low, among.decisive.difference.high) == pytest.approx((-0.3 - half, -0.3 + half))
    assert [contrast.level for contrast in among.contrasts[1:]] == [0.95, 0.95]
    assert [contrast.verdict for contrast in among.contrasts].count("reproduced") == 2


def test_the_primary_claims_of_a_report_are_corrected_together_and_others_are_not() -> None:
    claims = tuple(Claim(name=f"claim {n}", statement="So.", contrasts=A_OVER_B, primary=n == 1) for n in range(2))
    one, two = (_study(*claims).model_copy(update={"name": name}) for name in ("one", "two"))
    plan = plan_of(one, two, seeds=3)
    values: Values = {"a": ABOVE, "b": (0.0,) * 3, "c": (0.0,) * 3, "d": (0.0,) * 3}
    judged = verdicts(plan, results_of(plan, values))
    assert [(each.study, each.rank, each.level) for each in judged] == [
        ("one", "exploratory", 0.95),
        ("one", "primary", 0.975),
        ("two", "exploratory", 0.95),
        ("two", "primary", 0.975),
    ]
    assert [each.decisive and each.decisive.level for each in judged] == [0.95, 0.975, 0.95, 0.975]
    widths = [each.decisive.difference.high - each.decisive.difference.low for each in judged if each.decisive]
    # Of two degrees of freedom, t is 4.3027 at 95 % and 6.2053 at 97.5 %.
    assert widths[1] / widths[0] == pytest.approx(6.205347 / 4.302653)


def test_a_primary_claim_counts_per_network_and_where_its_results_are_missing_but_not_where_it_is_not_asked() -> None:
    study = _study(_claim(*A_OVER_B))
    cut = _study(_claim(*better_than("a", "z")), names="az").model_copy(
        update={"name": "cut", "variants": _study(names="a").variants}
    )
    networks = tuple(
        InspectedNetwork(name=name, label=f"τ = {tau}", changes={"train.temperature.start": float(tau)})
        for name, tau in (("low", 1), ("middle", 5), ("high", 30))
    )
    thrice = study.model_copy(update={"name": "thrice", "networks": networks, "inspect": ("low", "middle", "high")})
    plan = plan_of(study, cut, thrice, seeds=3)
    assert plan.primary_claims == 4
    assert primary_level(plan) == pytest.approx(1 - 0.05 / 4)


@pytest.mark.parametrize(("level", "verdict"), [(10.4, "undecided"), (40.0, "reproduced")])
def test_what_is_all_at_chance_carries_no_verdict(level: float, verdict: Verdict) -> None:
    """Of ten classes 10 %: how far below it another row lies says nothing, but above is a finding."""
    around = (level - 0.01, level, level + 0.01)
    found = _judge(_study(_claim(*A_OVER_B)), {"a": around, "b": (10.0, 10.0, 10.0)})
    assert found.verdict == verdict
    assert found.remark == ("carries no verdict: all at chance" if verdict == "undecided" else "")


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
    assert found.words == "undecided: one seed"
    assert found.decisive is not None
    assert (found.decisive.difference.mean, found.decisive.difference.has_interval) == (50.0, False)


def test_a_missing_repeat_of_the_other_side_counts_too() -> None:
    found = _judge(_study(_claim(*A_OVER_B)), {"a": ABOVE, "b": (0.0, 0.0, None)})
    assert found.words == "undecided: missing repeat"
    assert found.decisive is not None
    assert (found.decisive.difference.n, found.decisive.complete, found.decisive.expected) == (2, 2, 3)
    assert not found.decisive.difference.is_known


@pytest.mark.parametrize(
    ("margin", "verdict"),
    [
        (1.5, "reproduced"),
        (1.9, "undecided"),
        (2.1, "undecided"),
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
        (_minus(AROUND), (1.0, None, 1.0), "undecided", "c"),
        ((1.0, None, 1.0), AROUND, "undecided", "b"),
        (AROUND, _minus(AROUND), "undecided", "c"),
        (ABOVE, AROUND, "undecided", "c"),
        ((1.0, None, 1.0), _minus(ABOVE), "contradicted", "c"),
        (NEAR, AROUND, "practically the same", "b"),
        (NEAR, _minus(ABOVE), "contradicted", "c"),
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
    assert (found.verdict, [contrast.verdict for contrast in found.contrasts]) == ("reproduced", ["reproduced"])
    assert found.left_out == (claim.contrasts[1],)
    alone = study.model_copy(update={"variants": study.variants[:1]})
    assert (_judge(alone, {}).words, _judge(alone, {}).decisive) == (
        "undecided: rows left out",
        None,
    )


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


def test_a_claim_about_no_variant_is_refused() -> None:
    with pytest.raises(ValueError, match="'z'"):
        _study(_claim(*better_than("a", "z")))


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=6), st.floats(-10, 10))
def test_the_opposite_claim_has_the_opposite_verdict(values: list[float], margin: float) -> None:
    there = judge(estimate(values), "better", 1.0, margin)
    back = judge(estimate([-value for value in values]), "better", 1.0, -margin)
    opposite: dict[Verdict, Verdict] = {"reproduced": "contradicted", "contradicted": "reproduced"}
    assert back == opposite.get(there, there)


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=6), st.floats(0.1, 10))
def test_an_equivalence_is_non_inferiority_on_both_sides(values: list[float], size: float) -> None:
    there, back = (estimate([sign * value for value in values]) for sign in (1, -1))
    both = {judge(found, "at_least_as_good", size) for found in (there, back)}
    assert (judge(there, "same", size) == "reproduced") == (both == {"reproduced"})
    assert (judge(there, "same", size) == "contradicted") == ("contradicted" in both)


@given(st.lists(st.floats(-100, 100), max_size=6), st.floats(-10, 10), st.floats(0, 10))
def test_asking_for_more_never_makes_it_stronger(values: list[float], margin: float, more: float) -> None:
    order = ("contradicted", "undecided", "reproduced")
    found = [judge(estimate(values), "better", 1e-9, m) for m in (margin, margin + more)]
    strength = [order.index("undecided" if each == "practically the same" else each) for each in found]
    assert strength[0] >= strength[1]


def _levels(plan: Plan, claim: Claim, level: float) -> dict[str, tuple[float | None, ...]]:
    """Made-up runs in which all that the claim calls better lies at `level`, and all else at 0."""
    better = {name for contrast in claim.contrasts for name in contrast.better}
    seeds = tuple(level + 0.001 * n for n in (0, 1, -1, 0, 0))
    return {cell.key: seeds if cell.variant in better else (0.0,) * len(seeds) for cell in plan.cells}


@pytest.mark.parametrize(("level", "verdict"), [(10.0, "reproduced"), (-10.0, "contradicted")])
@pytest.mark.parametrize("study", available_studies())
def test_every_registered_claim_can_hold_and_can_fail(study: str, level: float, verdict: Verdict) -> None:
    plan = whole_plan("small", study)
    for claim in plan.studies[0].claims:
        # The same is what does not differ at all; in either direction it is contradicted.
        is_equivalence = claim.contrasts[0].kind == "same"
        distance = 0.0 if is_equivalence and verdict == "reproduced" else level
        found = verdicts(plan, results_of(plan, _levels(plan, claim, distance)))
        assert {judged.verdict for judged in found if judged.claim == claim} == {verdict}
