"""A study from a YAML file: what a valid one says, and the line and reason of everything else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ablations.claims import Contrast
from ablations.errors import StudyError
from ablations.planning.plan import make_plan
from ablations.planning.request import Request
from ablations.presets import get_preset
from ablations.registry import get_study
from ablations.spec.parts import BLOCKS, Intervention, Placement
from ablations.study import Scale, Study

Loader = Callable[[str | bytes], Study]

# (what stands in the valid file, what is written instead, line of the error, its reason)
CASES = [
    ("name: my-kernels", "nmae: my-kernels", 1, "unknown key 'nmae'.*'name'"),
    ("name: my-kernels", "name: 5", 1, "name: input should be a valid string, found 5"),
    ("name: my-kernels", "name:", 1, "name: input should be a valid string, found None"),
    ("name: my-kernels", "name: ''", 1, "at least 1 character"),
    ("name: my-kernels", f"name: {'x' * 300}", 1, "at most 200"),
    ("question:", "1:", 2, "unknown key '1'"),
    ("reference: k4\n", "", 1, "reference is missing"),
    ("reference: k4", "reference: k5", 3, "unknown variant 'k5'.*'k4'"),
    ("reference: k4", "reference: k4\nmetric: test/top2", 4, "unknown metric.*'test/top1'"),
    ("reference: k4", "reference: k4\nseeds: many", 4, "seeds: input should be a valid integer, found 'many'"),
    ("reference: k4", "reference: k4\nsize_of_interest: -1", 4, "size_of_interest: .*greater than 0"),
    ("reference: k4", "reference: k4\nsize_of_intrest: 1", 4, "size_of_interest"),
    ("reference: k4", "reference: k4\nseeds: 0", 4, "seeds: .*greater than or equal to 1"),
    ("reference: k4", "reference: k4\ncolumns: [a, 5]", 4, "columns.1: .*string, found 5"),
    ("reference: k4", "reference: k4\nreference: k2", 4, "'reference' is defined a second time"),
    ("reference: k4", "reference: k4\ninspect: [k4]", 4, "unknown network 'k4'"),
    ("published: temperature", "published: temprature", 4, "unknown published table.*'temperature'"),
    ("  train.epochs: 2", "  train.epoch: 2", 6, "unknown key 'train.epoch'.*'train.epochs'"),
    ("  train.epochs: 2", "  train.epochs: two", 6, "train.epochs: .*integer, found 'two'"),
    ("  train.epochs: 2", "  train.epochs: 2.5", 6, "train.epochs: .*integer, found 2.5"),
    ("  train.epochs: 2", "  train.epochs: yes", 6, "train.epochs: .*integer, found 'yes'"),
    ("  train.epochs: 2", "  train.epochs: 2\n  train.epochs: 3", 7, "defined a second time"),
    ("  train.epochs: 2", "  train.weight_decay: 2", 9, "'train.weight_decay' is given twice"),
    ("start: 30", "start: .nan", 8, "train.temperature.start: .*finite"),
    ("start: 30", "start: .inf", 8, "train.temperature.start: .*finite"),
    ("start: 30", "strat: 30", 8, "unknown key 'train.temperature.strat'.*start'"),
    ("start: 30", "start: 30, start: 1", 8, "'start' is defined a second time"),
    ("{schedule: constant, start: 30}", "30", 8, "'train.temperature' is a group of settings"),
    ("weight_decay: 1e-4", "weight_dcay: 1e-4", 9, "unknown key 'train.weight_dcay'.*'train.weight_decay'"),
    ("weight_decay: 1e-4", "weight_decay: -1", 9, "train.weight_decay: .*greater than or equal to 0"),
    ("weight_decay: 1e-4", "weight_decay: [1]", 9, r"train.weight_decay: .*number, found \[1\]"),
    ("    published: static", "    published: sttic", 12, "unknown row of published table.*'static'"),
    ("    published: static", "    publishd: static", 12, "unknown key 'publishd'.*'published'"),
    ("layer: static", "layer: sttic", 13, "unknown layer 'sttic'. Did you mean 'static'"),
    ("{model.num_kernels: 2}", "2", 14, "'k2' must map settings to values, found 2"),
    ("{model.num_kernels: 2}", "[model.num_kernels]", 14, "'k2' must map settings"),
    ("  k2:", "  static:", 14, r"'static' is defined a second time \(first in line 11\)"),
    ("label: K = 4", "label: 4", 16, "label: .*string, found 4"),
    ("label: K = 4", "lable: K = 4", 16, "unknown key 'lable'.*'label'"),
    ("      num_kernels: 4", "      num_kernels: 0", 18, "model.num_kernels: .*greater than or equal to 1"),
    ("role: [stem, head, squeeze_excitation]", "role: [stem,\n           haed]", 22, "unknown role 'haed'.*'head'"),
    ("role: [stem,", "roles: [stem,", 21, "unknown key 'model.where.not.roles'.*'role'"),
    ("role: [stem, head, squeeze_excitation]", "role: stem", 21, "list, found 'stem'"),
    ("aggregation: average", "aggregation: averge", 24, "unknown aggregation 'averge'.*'average'"),
    ("aggregation: average", "agregation: average", 24, "unknown key 'agregation'.*'aggregation'"),
    ("resolution: [7, 14]", "resolution: [7, x]", 25, "integer, found 'x'"),
    ("resolution: [7, 14]", "resolutions: [7, 14]", 25, "unknown key 'resolutions'.*'resolution'"),
    ("    intervention:\n", "    intervention:\n      seed: -1\n", 24, "seed: .*greater than or equal to 0"),
    ("  static:", "  '':", 11, "at least 1 character"),
    ("  k2:", "  ? [k2]\n  :", 14, "a key must be a plain word"),
    ("  k2: {", "  k2: !!python/object/apply:os.system {", 14, "not allowed"),
]


def test_a_valid_file(load: Loader, study_text: str) -> None:
    study = load(study_text)
    assert (study.name, study.title, study.reference, study.published) == (
        "my-kernels",
        "my-kernels",
        "k4",
        "temperature",
    )
    assert study.baseline == {
        "train.epochs": 2,
        "train.temperature.schedule": "constant",
        "train.temperature.start": 30,
        "train.weight_decay": 0.0001,
    }
    assert [variant.name for variant in study.variants] == ["static", "k2", "k4", "averaged"]
    assert study.variant("static").changes == {"model.layer": "static"}
    assert study.variant("static").published == "static"
    assert study.variant("k4").title == "K = 4"
    averaged = Intervention(aggregation="average", where=Placement(resolution=(14, 7)))
    assert study.variant("averaged").intervention == averaged


@pytest.mark.parametrize(("text", "size"), [("1", 1.0), ("0.25", 0.25)])
def test_the_size_of_interest(load: Loader, study_text: str, text: str, size: float) -> None:
    assert load(study_text).size_of_interest is None
    assert load(f"{study_text}size_of_interest: {text}\n").size_of_interest == size


def test_a_valid_file_is_planned(load: Loader, study_text: str) -> None:
    plan = make_plan([load(study_text)], Request(get_preset("smoke"), seeds=1))
    assert (len(plan.trials), len(plan.evaluations), len(plan.cells)) == (3, 1, 4)
    assert {node.spec.train.weight_decay for node in plan.trials.values()} == {1e-4}
    k4 = plan.node(plan.cells[2].fingerprint)
    (averaged,) = plan.evaluations.values()
    assert averaged.network == k4
    assert averaged.network.spec.model.where == BLOCKS


def test_networks_are_inspected_unless_told_otherwise(load: Loader, study_text: str) -> None:
    lines = (
        "networks:\n  flat: {train.temperature.start: 40}\n  sharp:\n    label: τ = 1\n    train.temperature.start: 1\n"
    )
    assert load(study_text + lines).inspect == ("flat", "sharp")
    assert load(study_text + lines + "inspect: [sharp]\n").inspect == ("sharp",)
    assert load(study_text + lines).networks[1].title == "τ = 1"


@pytest.mark.parametrize("case", CASES)
def test_an_error_has_the_line_of_the_offending_key(
    load: Loader, study_text: str, tmp_path: Path, case: tuple[str, str, int, str]
) -> None:
    old, new, line, reason = case
    assert study_text.count(old) == 1
    with pytest.raises(StudyError, match=reason) as caught:
        load(study_text.replace(old, new))
    assert str(caught.value).startswith(f"{tmp_path / 'study.yaml'}:{line}: ")
    assert not any(word in str(caught.value) for word in ("pydantic", "Traceback", "Value error", "tuple"))


ROWS = {"k2": {"train.nesterov": False}}
CLAIMED = """\
claims:
  - name: four beat two
    statement: Four kernels are better than two.
    contrasts:
      - {better: [k4], worse: [k2], margin: 1}
scales:
  quick:
    variants: [k4, k2]
    seeds: 2
    baseline: {train: {epochs: 3}}
    rows: {k2: {train.nesterov: false}}
"""


def test_a_file_may_have_claims_and_scales(load: Loader, study_text: str) -> None:
    study = load(study_text + CLAIMED)
    assert study.claims[0].contrasts == (Contrast(better=("k4",), worse=("k2",), margin=1.0),)
    assert study.scales == {"quick": Scale(variants=("k4", "k2"), seeds=2, baseline={"train.epochs": 3}, rows=ROWS)}
    assert len(make_plan([study], Request(get_preset("quick"))).trials) == 2 * 2


def test_a_contrast_of_another_kind_and_a_primary_claim(load: Loader, study_text: str) -> None:
    text = CLAIMED.replace("margin: 1", "kind: at_least_as_good").replace("    contr", "    primary: true\n    contr")
    (claim,) = load(study_text + text).claims
    assert claim.primary
    assert claim.contrasts == (Contrast(better=("k4",), worse=("k2",), kind="at_least_as_good"),)


@pytest.mark.parametrize(
    ("old", "new", "line", "reason"),
    [
        ("margin", "margn", 5, "unknown key 'margn'.*'margin'"),
        ("worse:", "wrose:", 5, "unknown key 'wrose'.*'worse'"),
        ("[k2], margin", "[k3], margin", 2, "claims.0: unknown variant 'k3'.*'k2'"),
        ("[k2], margin", "[k4], margin", 5, "'k4' is on both sides"),
        ("better: [k4]", "better: k4", 5, "list, found 'k4'"),
        ("better: [k4]", "better: []", 5, "list should have at least 1 item"),
        ("margin: 1", "kind: better than", 5, "kind.*at_least_as_good"),
        ("margin: 1", "kind: same, margin: 1", 5, "kind 'same' has no margin, found 1"),
        ("    contrasts:", "    primry: true\n    contrasts:", 4, "unknown key 'primry'.*'primary'"),
        ("    contrasts:", "    primary: 1\n    contrasts:", 4, "primary"),
        ("    statement: Four kernels are better than two.\n", "", 2, "claims.0.statement is missing"),
        ("quick", "quik", 7, "unknown preset 'quik'.*'quick'"),
        ("variants: [k4, k2]", "variants: [k2]", 7, "leaves out the reference 'k4'"),
        ("variants: [k4, k2]", "variants: [k4, k3]", 7, "unknown variant 'k3'.*'k2'"),
        ("variants: [k4, k2]", "variants: []", 8, "list should have at least 1 item"),
        ("    variants: [k4, k2]", "    vriants: [k4, k2]", 8, "unknown key 'vriants'.*'variants'"),
        ("seeds: 2", "seeds: 0", 9, "greater than or equal to 1"),
        ("rows: {k2:", "rows: {k3:", 7, "unknown variant 'k3'.*'k2'"),
        ("nesterov", "nestrov", 11, "unknown setting 'train.nestrov'.*'train.nesterov'"),
        ("epochs: 3", "epoch: 3", 10, "unknown setting 'train.epoch'.*'train.epochs'"),
    ],
)
def test_an_error_in_claims_or_scales_has_its_line(
    load: Loader, study_text: str, old: str, new: str, line: int, reason: str
) -> None:
    assert CLAIMED.count(old) == 1
    with pytest.raises(StudyError, match=reason) as caught:
        load(study_text + CLAIMED.replace(old, new))
    assert f"study.yaml:{study_text.count(chr(10)) + line}: " in str(caught.value)
    assert not any(word in str(caught.value) for word in ("pydantic", "Value error", "tuple", "Tuple"))


@pytest.mark.parametrize("content", ["", "# only a comment\n", "- a\n- b\n", "just words", "5", "null", "[]", "{}"])
def test_what_is_not_a_mapping_is_no_study(load: Loader, content: str) -> None:
    with pytest.raises(StudyError, match=r"study\.yaml:1: (a study is a mapping|name is missing)"):
        load(content)


@pytest.mark.parametrize("variants", ["5", "[]", "{}", "[k2]", ""])
def test_variants_map_names_to_changes(load: Loader, study_text: str, variants: str) -> None:
    before, _, _ = study_text.partition("variants:")
    with pytest.raises(StudyError, match=r"study\.yaml:10: variants must map names to their changes"):
        load(f"{before}variants: {variants}\n")


def test_cells_must_fill_the_columns(load: Loader, study_text: str) -> None:
    with_columns = study_text.replace("reference: k4", "reference: k4\ncolumns: [a, b]")
    with pytest.raises(StudyError, match=r"study\.yaml:12: .*'static' has 0 cells for 2 columns"):
        load(with_columns)
    with_cells = with_columns.replace("    published: static", "    published: static\n    cells: [x]")
    with pytest.raises(StudyError, match=r"study\.yaml:14: .*'static' has 1 cells for 2 columns"):
        load(with_cells)


@pytest.mark.parametrize("name", ["../x", "$HOME", "#1", "\\\\input", "<script>alert(1)</script>", "🐙", "%s"])
def test_hostile_names_are_kept_literally(load: Loader, study_text: str, name: str) -> None:
    study = load(study_text.replace("my-kernels", f'"{name}"').replace("  k2:", f'  "{name}":'))
    expected = name.replace("\\\\", "\\")
    assert study.name == expected
    assert study.variants[1].name == expected


def test_python_tags_run_nothing(load: Loader, study_text: str, tmp_path: Path) -> None:
    mark = tmp_path / "pwned"
    for tag in ("object/apply:os.system", "object/new:os.system", "name:os.system", "module:os"):
        with pytest.raises(StudyError, match="not allowed"):
            load(study_text.replace("label: K = 4", f"label: !!python/{tag} ['touch {mark}']"))
    assert not mark.exists()


def test_a_file_is_a_study_by_its_ending(tmp_path: Path, study_text: str) -> None:
    base = Request(get_preset("smoke")).base()
    for ending in (".yaml", ".yml", ".YAML"):
        (tmp_path / f"study{ending}").write_text(study_text)
        assert get_study(str(tmp_path / f"study{ending}"), base).name == "my-kernels"
    (tmp_path / "other.yaml").write_text(study_text.replace("my-kernels", "temperature"))
    with pytest.raises(StudyError, match="belongs to a registered study"):
        get_study(str(tmp_path / "other.yaml"), base)
