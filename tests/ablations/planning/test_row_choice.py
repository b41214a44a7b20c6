"""Rows of a study by name or pattern: what is chosen, what comes along, what is refused, what a plan keeps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ablations import registry
from ablations.errors import AblationError, SpecError, StudyError, UnknownNameError
from ablations.planning.plan import Plan, make_plan
from ablations.planning.plan_data import plan_of, request_data
from ablations.planning.request import Request
from ablations.presets import get_preset
from ablations.protocol.stopping import StoppingRule
from ablations.registry import find_rows, find_studies, register_study, split_name
from ablations.study import Study, Variant


def plan(*names: str, preset: str = "quick", seed: int | None = None, all_studies: bool = False) -> Plan:
    request = Request(get_preset(preset), seed=seed)
    studies, rows = find_rows(names, all_studies, request)
    return make_plan(studies, Request(get_preset(preset), rows=rows, seed=seed))


def keys(plan: Plan) -> list[str]:
    """The rows of a plan as `study/row`, each once."""
    return list(dict.fromkeys(f"{cell.study}/{cell.key}" for cell in plan.cells))


@pytest.mark.parametrize(
    ("name", "study", "row"),
    [
        ("temperature", "temperature", ""),
        ("temperature/tau_30", "temperature", "tau_30"),
        ("aggregation/tau_1: average", "aggregation", "tau_1: average"),
        ("temperature/a/b", "temperature", "a/b"),
        ("folder/mine.yaml", "folder/mine.yaml", ""),
        ("folder/mine.yaml/wide", "folder/mine.yaml", "wide"),
        ("folder/MINE.YML/a/b", "folder/MINE.YML", "a/b"),
        # A file, though its folder is called like a study.
        ("temperature/mine.yaml", "temperature/mine.yaml", ""),
        ("temperature/mine.yaml/wide", "temperature/mine.yaml", "wide"),
        ("no/such", "no", "such"),
    ],
)
def test_a_name_is_split_into_study_and_row(name: str, study: str, row: str) -> None:
    assert split_name(name) == (study, row)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["temperature/tau_30"], ["tau_30"]),
        # In the order of the study, and with the reference.
        (["temperature/tau_5", "temperature/tau_1", "temperature/tau_1"], ["tau_1", "tau_5", "tau_30"]),
        (["temperature/tau_*"], ["tau_1", "tau_5", "tau_10", "tau_30"]),
        (["temperature/tau_?"], ["tau_1", "tau_5", "tau_30"]),
        (["temperature/[as]*"], ["static", "tau_30", "annealed"]),
        (["aggregation/tau_1: average"], ["tau_1: attention", "tau_1: average"]),
        (["aggregation/tau_*: m*"], ["tau_1: attention", "tau_1: max"]),
        (
            ["aggregation/average"],
            ["annealed: attention", "annealed: average", "tau_1: attention", "tau_1: average"],
        ),
        # A table has no holes: each network with each variant.
        (
            ["aggregation/tau_1: average", "aggregation/annealed: attention"],
            ["annealed: attention", "annealed: average", "tau_1: attention", "tau_1: average"],
        ),
    ],
)
def test_names_and_patterns_choose_rows_and_the_reference_comes_along(names: list[str], expected: list[str]) -> None:
    chosen = plan(*names)
    study = chosen.studies[0].name
    assert keys(chosen) == [f"{study}/{key}" for key in expected]
    assert chosen.rows_by_study == {study: expected}


@pytest.mark.parametrize(
    ("names", "all_studies"),
    [
        (["temperature", "temperature/tau_1"], False),
        (["temperature/tau_1", "temperature"], False),
        (["temperature/*"], False),
        (["temperature/tau_1"], True),
    ],
)
def test_a_study_that_is_named_whole_is_whole(names: list[str], all_studies: bool) -> None:
    chosen = plan(*names, all_studies=all_studies, preset="smoke")
    whole = plan("temperature", preset="smoke")
    assert chosen.cells_of("temperature") == whole.cells
    assert chosen.rows_by_study == {}
    assert not all_studies or len(chosen.studies) > 10


def test_rows_are_the_cells_of_the_whole_study() -> None:
    part, whole = plan("temperature/tau_1", "aggregation/tau_1: max"), plan("temperature", "aggregation")
    assert set(part.cells) < set(whole.cells)
    # The evaluations of one network need the trainings of that network, which are those of the other study's row.
    assert len(part.trials) == 9 + 5
    assert len(part.evaluations) == 9


def test_a_name_with_wildcards_means_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_builders", {})
    widths = {"a": 0.25, "[a]": 0.35, "b*": 0.5, "bc": 0.75}
    variants = tuple(Variant(name=name, changes={"model.width": width}) for name, width in widths.items())
    register_study(Study(name="odd", title="Odd", question="?", reference="a", variants=variants))
    assert keys(plan("odd/[a]", "odd/b*", preset="smoke")) == ["odd/a", "odd/[a]", "odd/b*"]


def test_a_slash_in_a_name_is_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_builders", {})
    variants = (Variant(name="1/2"), Variant(name="1/4", changes={"model.width": 0.25}))
    for name in ("a/b", "a"):
        register_study(Study(name=name, title="Odd", question="?", reference="1/2", variants=variants))
    assert split_name("a/b/1/4") == ("a/b", "1/4")
    assert split_name("a/1/4") == ("a", "1/4")
    assert keys(plan("a/b/1/4", "a/1/2", preset="smoke")) == ["a/b/1/2", "a/b/1/4", "a/1/2"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "temperature/tau_2",
            ["has no row 'tau_2'. Did you mean 'tau_5' or 'tau_1'", "Its rows here are: static, tau_1"],
        ),
        ("temperature/x*", ["no row of study 'temperature' matches 'x*'. Its rows here are: static, tau_1, tau_5"]),
        ("temperature/tau_20", ["row 'tau_20' of study 'temperature' is left out at preset quick"]),
        ("aggregation/tau_1", ["'tau_1' is a network of study 'aggregation'", "'aggregation/tau_1: *'"]),
        ("aggregation/tau_1: averages", ["Did you mean 'tau_1: average'"]),
        ("temperature/", ["'temperature/' names no row. Leave out the slash"]),
    ],
)
def test_a_wrong_row_is_told_with_the_possible_ones(name: str, words: list[str]) -> None:
    with pytest.raises(StudyError) as error:
        plan(name)
    for word in words:
        assert word in str(error.value)


def test_an_unknown_study_of_a_row_is_told_as_such() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown study 'temperatur'\. Did you mean 'temperature'"):
        plan("temperatur/tau_30")


def test_what_is_done_for_whole_studies_refuses_a_row() -> None:
    with pytest.raises(StudyError, match=r"'temperature/tau_30' names a row, .* Name the study: temperature"):
        find_studies(["temperature/tau_30"], False, Request(get_preset("smoke")))


def test_rows_of_a_file(tmp_path: Path) -> None:
    text = "name: mine\nquestion: q\nreference: a\nvariants: {a: {}, b: {model.width: 0.5}, c: {model.width: 0.75}}\n"
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    assert keys(plan(f"{path}/b", preset="smoke")) == ["mine/a", "mine/b"]
    # The file by its path and its rows by their name: the study is one.
    assert len(plan(f"{path}/b", f"{path}/c", preset="smoke").studies) == 1


def test_one_repeat() -> None:
    one, whole = plan("temperature/tau_1", seed=1), plan("temperature")
    assert [cell.seed for cell in one.cells] == [1, 1]
    assert set(one.cells) < set(whole.cells)
    assert one.request.seeds_of(one.studies[0]) == 1
    # What is counted has no repeats.
    assert [cell.seed for cell in plan("cost", seed=1).cells] == [0] * len(plan("cost").cells)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seed": 1, "seeds": 2}, "asks for one repeat and seeds = 2"),
        ({"seed": 10_000}, "repeats have seeds from 0 to 9999"),
        ({"seed": 0, "stopping": StoppingRule(20)}, "adds repeats"),
    ],
)
def test_one_repeat_that_cannot_be(options: dict[str, object], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        Request(get_preset("smoke"), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("names", [["temperature/tau_*", "kernels"], ["aggregation/average"], ["temperature"]])
def test_a_plan_is_made_again_from_its_data(names: list[str]) -> None:
    made = plan(*names, seed=1)
    data = json.loads(json.dumps(request_data(made)))
    again = plan_of(data, "a test")
    assert again.cells == made.cells
    assert request_data(again) == data
    assert ("rows" in data) == bool(made.rows_by_study)


def test_a_pattern_is_kept_as_the_names_that_it_meant() -> None:
    by_pattern, by_name = plan("temperature/tau_1*"), plan("temperature/tau_10", "temperature/tau_1")
    assert request_data(by_pattern) == request_data(by_name)
    assert by_pattern.request.scale == plan("temperature").request.scale


def test_a_claim_is_judged_with_all_that_it_needs_or_not_at_all() -> None:
    at_30, both, neither = (
        plan(*(f"temperature/{row}" for row in rows)).studies[0]
        for rows in (["tau_5", "tau_10"], ["tau_5", "annealed"], ["tau_1", "static"])
    )
    claims = {claim.name: claim for claim in both.claims}
    smaller, annealing = (
        claims["τ = 30 is at least as good as a smaller τ"],
        claims["annealing is at least as good as τ = 30"],
    )
    # One of the two contrasts alone would say something else than the claim.
    assert [len(study.contrasts_of(smaller)) for study in (at_30, both, neither)] == [2, 0, 0]
    assert [len(study.contrasts_of(annealing)) for study in (at_30, both, neither)] == [0, 1, 0]
    assert plan("temperature/tau_5").primary_claims == 0
    assert plan("temperature/tau_1").primary_claims == 1


def test_a_preset_that_leaves_rows_out_still_asks_the_rest_of_a_claim() -> None:
    whole = plan("methods", preset="quick").studies[0]
    for claim in whole.claims:
        names = [variant.name for variant in whole.variants]
        assert whole.contrasts_of(claim) == claim.contrasts_between(names)


def test_rows_are_refused_where_an_override_leaves_nothing_of_their_study() -> None:
    request = Request(get_preset("smoke"), {"model.layer": "condconv"}, rows={"temperature": ("tau_1",)})
    with pytest.raises(AblationError, match="temperature"):
        make_plan(find_studies(["temperature"], False, request), request)
