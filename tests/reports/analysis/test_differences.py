"""Rows subtracted from each other: paired by seed, missing where one is missing, image by image on one checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from ablations import vocabulary as names
from ablations.claims import better_than
from ablations.planning.plan import Plan
from reports.analysis.claims import judge_contrast
from reports.analysis.differences import compare_by_image, difference, share_checkpoints
from reports.analysis.statistics import contrast_interval, estimate, over_images, two_level
from reports.analysis.summary import VariantSummary, summarize_study
from reports.collect.correctness import Correctness, compared_by_image
from reports.collect.results import Results
from tests.reports.everything import made_up_results, whole_plan

TOP1 = names.TEST_TOP1


@dataclass
class _Row:
    values: Mapping[int, float]
    complete: bool = True
    checkpoints: Mapping[int, str] = field(default_factory=dict)
    correctness: Mapping[int, Correctness] = field(default_factory=dict)
    unlearned: Mapping[int, str] = field(default_factory=dict)
    trained_elsewhere: bool = False


def _images(*bits: int, data: str = "data", metric: str = TOP1) -> Correctness:
    packed = {metric: np.packbits(np.array(bits, dtype=bool)).tobytes()}
    return Correctness(len(bits), (data, "data set"), "", packed)


def _row(*tables: tuple[int, ...], checkpoints: str = "ab", data: str = "data", metric: str = TOP1) -> _Row:
    """Returns a row with an image table per seed."""
    values = {seed: 100 * sum(table) / len(table) for seed, table in enumerate(tables)}
    found = {seed: _images(*table, data=data, metric=metric) for seed, table in enumerate(tables)}
    return _Row(values, True, dict(enumerate(checkpoints)), found)


ONE = _row((1, 1, 1, 0), (1, 1, 0, 0))
OTHER = _row((1, 0, 0, 0), (1, 1, 0, 1))


def test_rows_of_one_checkpoint_are_compared_image_by_image() -> None:
    found = difference((ONE,), (OTHER,), TOP1)
    expected = two_level([[0.0, 100.0, 100.0, 0.0], [0.0, 0.0, 0.0, -100.0]])
    assert found == expected
    assert found.covers_images
    assert found.mean == pytest.approx(estimate((50.0, -25.0)).mean)


def test_several_rows_on_a_side_are_averaged_per_image() -> None:
    third = _row((0, 0, 0, 0), (1, 0, 0, 0))
    found = difference((ONE, OTHER), (third,), TOP1)
    assert found == two_level([[100.0, 50.0, 50.0, 0.0], [0.0, 100.0, 0.0, 50.0]])


@pytest.mark.parametrize(
    "other",
    [
        _row((1, 0, 0, 0), (1, 1, 0, 1), checkpoints="ac"),
        _row((1, 0, 0, 0), (1, 1, 0, 1), checkpoints=""),
        _row((1, 0, 0, 0), (1, 1, 0, 1), data="other"),
        _row((1, 0, 0, 0), (1, 1, 0, 1), metric=names.TEST_TOP5),
        _Row({0: 25.0, 1: 75.0}, checkpoints={0: "a", 1: "b"}),
        _Row({0: 25.0, 1: 75.0}, True, {0: "a", 1: "b"}, {0: _images(1, 0, 0, 0)}),
    ],
    ids=["trained apart", "unknown", "other images", "other metric", "no images", "one without images"],
)
def test_all_others_are_compared_by_seed(other: _Row) -> None:
    assert difference((ONE,), (other,), TOP1) == estimate((50.0, -25.0))


def test_other_metrics_and_single_rows_have_no_images() -> None:
    assert not difference((ONE,), (OTHER,), names.TEST_LOSS).covers_images
    assert difference((ONE,), (), TOP1) == estimate((75.0, 50.0))
    assert share_checkpoints((ONE, OTHER))
    assert not compare_by_image((ONE, OTHER), names.TEST_LOSS)


def test_a_missing_repeat_leaves_the_number_of_pairs() -> None:
    found = difference((_Row({0: 1.0, 2: 2.0}, complete=False),), (_Row({0: 1.0, 1: 1.0, 2: 1.0}),), TOP1)
    assert (found.n, found.is_known, found.has_interval) == (2, False, False)


@pytest.fixture(scope="module")
def plan() -> Plan:
    return whole_plan("quick", "trained_aggregation", "aggregation", "temperature", seeds=3)


@pytest.fixture(scope="module")
def results(plan: Plan) -> Results:
    return made_up_results(plan)


def test_what_is_compared_by_image_is_what_shares_a_checkpoint(plan: Plan) -> None:
    aggregation, temperature = (study for study in plan.studies if study.name != "trained_aggregation")
    assert compared_by_image(temperature, plan) == ()
    assert set(compared_by_image(aggregation, plan)) == {cell.fingerprint for cell in plan.cells_of("aggregation")}
    mixed = plan.studies[0]
    kinds = {(plan.node(key).kind, plan.node(key).spec.model.aggregation) for key in compared_by_image(mixed, plan)}
    assert kinds == {("trial", "attention"), ("evaluation", "attention")}
    assert compared_by_image(aggregation.model_copy(update={"metric": names.TEST_LOSS}), plan) == ()


def test_a_table_says_of_each_difference_what_it_covers(plan: Plan, results: Results) -> None:
    covered = {row.variant: row.delta.covers_images for row in _rows(plan, results, 0) if row.delta}
    assert covered == {
        "evaluated_average": True,
        "evaluated_shuffle_per_image": True,
        "trained_average": False,
        "trained_shuffle_per_image": False,
    }


def _rows(plan: Plan, results: Results, study: int) -> tuple[VariantSummary, ...]:
    return summarize_study(plan.studies[study], plan, results).variants


def test_a_contrast_has_the_interval_of_its_table(plan: Plan, results: Results) -> None:
    """*attention* is the reference, so the claim that it beats *average* is the table's difference turned round."""
    study = plan.studies[1]
    rows = {row.variant: row for row in summarize_study(study, plan, results).of_network("tau_1")}
    (contrast,) = better_than("attention", "average")
    judged, delta = judge_contrast(study, contrast, rows).difference, rows["average"].delta
    assert delta is not None
    assert judged.covers_images
    assert (judged.mean, judged.low, judged.high) == pytest.approx((-delta.mean, -delta.high, -delta.low))


def test_two_levels_are_wider_than_seeds_alone(plan: Plan, results: Results) -> None:
    without = Results(results.cells, results.curves, results.runs)
    for row, alone in zip(_rows(plan, results, 1), _rows(plan, without, 1), strict=True):
        if row.delta is not None and alone.delta is not None:
            assert row.delta.mean == pytest.approx(alone.delta.mean)
            assert row.delta.high - row.delta.low >= (alone.delta.high - alone.delta.low) * (1 - 1e-9)


def _trainings(count: int, seeds: int = 3) -> list[_Row]:
    draw = np.random.default_rng(2)
    values = 80 + draw.normal(size=(count, seeds))
    names_of_rows = "abcdefgh"
    return [
        _Row(dict(enumerate(row.tolist())), checkpoints={seed: f"{names_of_rows[i]}{seed}" for seed in range(seeds)})
        for i, row in enumerate(values)
    ]


def _array(rows: list[_Row]) -> np.ndarray:
    return np.array([list(row.values.values()) for row in rows])


def test_separate_trainings_share_the_spread_of_their_table() -> None:
    rows = _trainings(5)
    found = difference((rows[1],), (rows[0],), TOP1, table=rows)
    assert found == contrast_interval(_array(rows), [-1.0, 1.0, 0, 0, 0])
    assert found.df > 2
    assert difference((rows[1],), (rows[0],), TOP1).df == 2, "without a table it stands on its own"
    groups = difference((rows[1], rows[2]), (rows[0],), TOP1, table=rows)
    assert groups == contrast_interval(_array(rows), [-1.0, 0.5, 0.5, 0, 0])


def test_the_order_of_a_table_does_not_matter_and_a_training_counts_once() -> None:
    rows = _trainings(5)
    expected = difference((rows[1],), (rows[0],), TOP1, table=rows)
    for table in (rows[::-1], [*rows, _Row(rows[4].values, checkpoints=rows[4].checkpoints)]):
        found = difference((rows[1],), (rows[0],), TOP1, table=table)
        assert (found.low, found.high, found.df) == pytest.approx((expected.low, expected.high, expected.df))


def test_rows_that_say_nothing_of_the_others_lend_nothing() -> None:
    """One never learned, one has a missing repeat, one has other checkpoints than are known: four are left."""
    rows = _trainings(7)
    expected = difference((rows[1],), (rows[0],), TOP1, table=rows[:4])
    rows[4].unlearned = {0: "its training loss ended at 2.3"}
    rows[5].complete = False
    rows[6].checkpoints = {}
    found = difference((rows[1],), (rows[0],), TOP1, table=rows)
    assert (found.low, found.high, found.df) == pytest.approx((expected.low, expected.high, expected.df))
    alone = difference((rows[4],), (rows[0],), TOP1, table=rows)
    assert alone.df == 2, "and it borrows nothing"


def test_a_table_with_evaluations_of_one_checkpoint_does_not_share() -> None:
    rows = _trainings(6)
    rows[5].checkpoints = rows[0].checkpoints
    for pair in ((1, 0), (2, 1), (5, 0)):
        better, worse = (rows[index] for index in pair)
        assert difference((better,), (worse,), TOP1, table=rows).df == 2


def test_tables_and_claims_share_alike(plan: Plan, results: Results) -> None:
    """*temperature* has eight trainings: more degrees of freedom than three seeds have, the same in table and claim."""
    study = plan.studies[2]
    summary = summarize_study(study, plan, results)
    rows = {row.variant: row for row in summary.variants}
    tested = summary.tested[0]
    (contrast,) = better_than(tested.variant, study.reference)
    judged, delta = judge_contrast(study, contrast, rows).difference, tested.delta
    assert delta is not None
    assert delta.df > 2
    assert (judged.low, judged.high, judged.df) == pytest.approx((delta.low, delta.high, delta.df))


def _single(*bits: int, checkpoint: str = "a") -> _Row:
    row = _row(bits, checkpoints=checkpoint)
    row.trained_elsewhere = True
    return row


def test_evaluations_of_one_network_from_elsewhere_are_compared_over_its_images() -> None:
    found = difference((_single(1, 1, 1, 0),), (_single(1, 0, 0, 1),), TOP1)
    assert found == over_images([0.0, 100.0, 100.0, -100.0])
    assert (found.mean, found.n, found.images_alone) == (25.0, 1, True)


def test_one_seed_of_a_training_has_no_interval_all_the_same() -> None:
    found = difference((_row((1, 1, 1, 0)),), (_row((1, 0, 0, 1)),), TOP1)
    assert (found.mean, found.has_interval) == (25.0, False)


def test_two_networks_from_elsewhere_are_not_compared_by_image() -> None:
    found = difference((_single(1, 1, 1, 0),), (_single(1, 0, 0, 1, checkpoint="b"),), TOP1)
    assert (found.mean, found.has_interval) == (25.0, False)


def test_an_undecided_contrast_of_one_network_asks_for_images_and_not_for_seeds() -> None:
    plan = whole_plan("smoke", "aggregation")
    study = plan.studies[0]
    (row, *_) = summarize_study(study, plan, made_up_results(plan)).variants
    rows = {}
    for name, bits in (("attention", (1, 1, 1, 0)), ("average", (1, 0, 0, 1))):
        made = _single(*bits)
        rows[name] = replace(
            row,
            variant=name,
            values=made.values,
            absent={},
            expected=1,
            checkpoints=made.checkpoints,
            correctness=made.correctness,
            unlearned={},
            trained_elsewhere=True,
        )
    judged = judge_contrast(study, better_than("attention", "average")[0], rows)
    assert (judged.verdict, judged.remark) == ("undecided", "more test images would decide it")
    assert not judged.seeds.needed
