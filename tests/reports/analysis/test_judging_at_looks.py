"""Claims under a stopping rule: levels that hold over all looks, seeds that would decide, words of the report."""

from __future__ import annotations

import pytest

from ablations.claims import Claim, better_than
from ablations.planning.plan import Plan, make_plan
from ablations.planning.request import Request
from ablations.presets import PRESETS
from ablations.protocol.stopping import StoppingRule
from ablations.study import Study, Variant
from reports import verdicts
from reports.analysis.claims import JudgedClaim
from reports.analysis.statistics import POWER, power_better
from reports.tables.claims import legend, stopping_words
from tests.reports.everything import results_of

SEED_VALUES = (0.6, 0.2, 0.9, 0.4, 0.5, 0.1, 0.7, 0.3, 0.8, 0.5, 0.4, 0.6, 0.2, 0.7, 0.5, 0.3, 0.9, 0.6, 0.4, 0.5)


def study(name: str = "made_up", *worse: str, exploratory: bool = False) -> Study:
    claims = [Claim(name="claim", statement="It is so.", contrasts=better_than("a", *(worse or ("b",))))]
    if exploratory:
        claims.append(Claim(name="aside", statement="It is so, too.", contrasts=better_than("a", "b")))
    variants = tuple(Variant(name=row, changes={"model.num_kernels": 2 + i}) for i, row in enumerate("abc"))
    return Study(name=name, title=name, question="?", reference="a", variants=variants, claims=tuple(claims))


def plan_at(*studies: Study, seeds: int, stopping: int | None = 20) -> Plan:
    rule = None if stopping is None else StoppingRule(stopping)
    by_study = {each.name: seeds for each in studies}
    return make_plan(studies, Request(PRESETS["quick"], stopping=rule, seeds_by_study=by_study))


def judged(plan: Plan, scale: float = 1.0) -> tuple[JudgedClaim, ...]:
    zeros = (0.0,) * 20
    # Rows b and c vary a little too, or they would have no spread to share.
    values = {"a": tuple(scale * value for value in SEED_VALUES), "b": zeros, "c": zeros}
    return verdicts(plan, results_of(plan, values))


@pytest.mark.parametrize(("seeds", "share"), [(3, 3 / 20), (5, 2 / 20), (8, 3 / 20), (12, 4 / 20), (20, 8 / 20)])
def test_a_primary_claim_is_judged_at_the_level_of_its_look(seeds: int, share: float) -> None:
    (claim,) = judged(plan_at(study(), seeds=seeds))
    assert claim.level == pytest.approx(1 - 0.05 * share)
    assert claim.decisive is not None
    assert claim.decisive.level == pytest.approx(claim.level)


def test_several_primary_claims_share_the_error_before_it_is_spent() -> None:
    claims = judged(plan_at(study("one"), study("two"), seeds=5))
    assert [claim.level for claim in claims] == pytest.approx([1 - 0.05 / 2 * 2 / 20] * 2)


def test_what_speaks_against_one_of_two_contrasts_is_judged_at_half_of_what_the_look_spends() -> None:
    (claim,) = judged(plan_at(study("made_up", "b", "c"), seeds=8), scale=-1.0)
    assert claim.verdict == "contradicted"
    assert claim.decisive is not None
    assert claim.decisive.level == pytest.approx(1 - 0.05 * 3 / 20 / 2)


def test_exploratory_claims_stay_at_95_per_cent() -> None:
    primary, aside = judged(plan_at(study(exploratory=True), seeds=5))
    assert primary.level > 0.99
    assert aside.level == 0.95


def test_without_a_rule_nothing_changes() -> None:
    (claim,) = judged(plan_at(study(), seeds=5, stopping=None))
    assert claim.level == 0.95
    assert stopping_words(plan_at(study(), seeds=5, stopping=None)) == ""


def test_what_five_seeds_decide_by_themselves_they_do_not_decide_as_one_look_of_five() -> None:
    (fixed,) = judged(plan_at(study(), seeds=5, stopping=None))
    (look,) = judged(plan_at(study(), seeds=5))
    assert (fixed.verdict, look.verdict) == ("reproduced", "undecided")
    (last,) = judged(plan_at(study(), seeds=20))
    assert last.verdict == "reproduced"


def test_the_seeds_that_would_decide_are_those_of_the_first_look_with_the_power_at_its_own_level() -> None:
    (claim,) = judged(plan_at(study(), seeds=3))
    assert claim.verdict == "undecided"
    assert claim.lacks_seeds
    decisive = claim.decisive
    assert decisive is not None
    sd, beyond = decisive.difference.interval_sd, abs(decisive.excess)
    levels = {5: 1 - 0.05 * 2 / 20, 8: 1 - 0.05 * 3 / 20, 12: 1 - 0.05 * 4 / 20, 20: 1 - 0.05 * 8 / 20}
    enough = [seeds for seeds, level in levels.items() if power_better(seeds, sd, beyond, level) >= POWER]
    assert claim.seeds.at_least == min(enough)


def test_a_decided_claim_and_one_that_cannot_be_judged_lack_no_seeds() -> None:
    (decided,) = judged(plan_at(study(), seeds=20))
    assert not decided.lacks_seeds
    plan = plan_at(study(), seeds=3)
    values = {"a": (0.6, None, 0.9), "b": (0.0,) * 3, "c": (0.0,) * 3}
    (missing,) = verdicts(plan, results_of(plan, values))
    assert missing.remark == "missing repeat"
    assert not missing.lacks_seeds


def test_seeds_that_gave_one_value_may_be_told_apart_by_more() -> None:
    plan = plan_at(study(), seeds=3)
    same = dict.fromkeys("abc", (1.0, 1.0, 1.0))
    (claim,) = verdicts(plan, results_of(plan, same))
    assert claim.lacks_seeds


def test_the_words_say_the_looks_and_what_is_not_protected() -> None:
    words = stopping_words(plan_at(study(), seeds=5))
    assert "at 3, 5, 8, 12 and 20 seeds" in words
    assert "hold over all looks" in words
    assert "protected against looking" in words
    assert words in legend(words).text


def test_studies_that_begin_with_other_numbers_are_named() -> None:
    other = study("other").model_copy(update={"seeds": 9})
    words = stopping_words(plan_at(study(), other, seeds=9))
    assert "at 3, 5, 8, 12 and 20 seeds (made_up); at 9, 14 and 20 seeds (other)" in words
