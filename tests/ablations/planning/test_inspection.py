"""Plans about networks that were trained elsewhere: nothing is trained, and the file decides the fingerprint."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from ablations.errors import AblationError, SpecError, StudyError
from ablations.files.study_file import load_study
from ablations.planning.lint import lint
from ablations.planning.optimisation_plans import make_tuning_plan
from ablations.planning.plan import Plan, make_plan
from ablations.planning.request import Request
from ablations.presets import get_preset
from ablations.registry import available_studies, find_studies
from ablations.spec.fingerprint import SPEC_VERSION, cost_fingerprint
from ablations.spec.parts import ModelSpec
from tests.ablations.files.test_checkpoint_file import described, safetensors

INSPECTING = ("aggregation", "resolution", "deployment", "attention_profile", "cost")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A checkpoint from elsewhere, of which nothing is known."""
    path = tmp_path / "theirs.pth"
    path.write_bytes(b"PK weights")
    return path


def planned(*studies: str, preset: str = "smoke", seeds: int | None = None, **overrides: Any) -> Plan:
    settings = {key.replace("__", "."): value for key, value in overrides.items()}
    request = Request(get_preset(preset), settings, seeds=seeds)
    return make_plan(find_studies(studies, False, request), request)


def test_one_file_serves_every_study_and_nothing_is_trained(file: Path) -> None:
    plan = planned(*INSPECTING, inspect=[str(file)])
    assert not plan.trials
    assert plan.trainings_without_sharing == 0
    (network,) = plan.networks.values()
    assert network.title == "DY-MobileNetV2 ×0.35 depth 0.5 K=4 · theirs.pth"
    # Four aggregations; of ten rows about resolutions one is the network itself, and one averages everywhere. Two
    # precisions.
    assert len(plan.evaluations) == 4 + 8 + 2
    assert {node.network for node in plan.evaluations.values()} == {network}
    assert len(plan.costs) == 2
    assert [node.kind for node in plan.nodes[:1]] == ["network"]
    assert {cell.seed for cell in plan.cells} == {0}
    assert {cell.network for cell in plan.cells_of("aggregation")} == {"theirs"}
    assert [cell.key for cell in plan.cells_of("attention_profile")] == ["theirs: as_trained"]
    assert not [finding for finding in lint(plan) if not finding.is_allowed]


def test_the_fingerprint_is_of_the_file_the_architecture_and_the_images(file: Path) -> None:
    """Written out by hand: kind, version, data, what is read of the spec, and the digest of the file."""
    (network,) = planned("aggregation", inspect=[str(file)]).networks.values()
    model = network.spec.model.model_dump(mode="json", by_alias=True)
    data = {"name": "fashion_mnist_mini", "image_size": None, "test_images": 100}
    content = {
        "kind": "network",
        "spec_version": SPEC_VERSION,
        "data_digest": "0633f0dc3dd08cf0b4fbfc807f7da745274ae70cdf53733fce13d31c5bafebc0",
        "spec": {"model": model, "data": data, "seed": 0},
        "checkpoint": {"sha256": hashlib.sha256(file.read_bytes()).hexdigest()},
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    assert network.fingerprint == hashlib.sha256(text.encode()).hexdigest()


def test_only_what_is_measured_changes_the_fingerprint(file: Path, tmp_path: Path) -> None:
    def fingerprint(**settings: Any) -> str:
        (key,) = planned("aggregation", **{"inspect": [str(file)], **settings}).networks
        return key

    first = fingerprint()
    copy = tmp_path / "elsewhere" / "same.pth"
    copy.parent.mkdir()
    copy.write_bytes(file.read_bytes())
    # The name and the place of a file do not matter, nor does the scale of trainings.
    assert fingerprint(inspect=[str(copy)]) == first
    assert len({first, fingerprint(model__width=0.5), fingerprint(data__test_images=50)}) == 3
    assert fingerprint(inspect__temperature=1.0) not in (first, fingerprint(inspect__temperature=2.0))
    file.write_bytes(b"PK other weights")
    assert fingerprint() != first


def test_a_file_of_ours_needs_no_settings(tmp_path: Path) -> None:
    model = ModelSpec(name="resnet10", width=None, depth=None, stem_stride=1, num_kernels=2)
    # As a run writes it: what a ResNet does not read is None.
    content = json.loads(described(model)) | {"dropout": None, "squeeze_excitation": None}
    path = tmp_path / "ours.safetensors"
    path.write_bytes(safetensors({"model": json.dumps(content)}))
    plan = planned("aggregation", "resolution", "cost", inspect=[str(path)])
    (network,) = plan.networks.values()
    assert (network.spec.model.name, network.spec.model.num_kernels) == ("resnet10", 2)
    # The rows about resolutions are those of its network, not those of the preset's.
    (study,) = [study for study in plan.studies if study.name == "resolution"]
    assert study.columns == planned("resolution", model__name="resnet10", model__stem_stride=1).studies[0].columns
    static, own = plan.cells_of("cost")
    assert plan.node(own.fingerprint).spec.model == network.spec.model
    assert plan.node(static.fingerprint).spec.model.layer == "static"


def test_a_count_has_the_fingerprint_that_it_has_without_a_file(file: Path) -> None:
    own = planned("cost", inspect=[str(file)]).cells_of("cost")[1]
    trial = next(iter(planned("temperature").trials.values()))
    dynamic = trial.spec.model_copy(update={"model": planned("aggregation").network_nodes[0].spec.model})
    assert own.fingerprint == cost_fingerprint(dynamic)


ADOPTED = {"model__name": "timm/tf_efficientnet_cc_b0_4e", "model__layer": "adopted"}


@pytest.mark.parametrize("settings", [{"model__layer": "static"}, ADOPTED])
def test_a_network_without_a_static_one_beside_it_is_counted_alone(file: Path, settings: dict[str, Any]) -> None:
    (cell,) = planned("cost", inspect=[str(file)], **settings).cells_of("cost")
    assert cell.variant == "its_own"


def test_two_files_are_two_networks(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.pth"
    other.write_bytes(b"PK more weights")
    plan = planned("aggregation", inspect=[str(file), str(other)])
    assert len(plan.networks) == 2
    assert {cell.network for cell in plan.cells} == {"theirs", "other"}
    with pytest.raises(SpecError, match=r"names the checkpoint .* twice"):
        planned("aggregation", inspect=[str(file), str(file), str(file)])
    with pytest.raises(StudyError, match="counts one network at a time"):
        planned("cost", inspect=[str(file), str(other)])


@pytest.mark.parametrize("name", sorted(set(available_studies()) - set(INSPECTING)))
def test_a_study_that_trains_its_variants_says_that_it_cannot(file: Path, name: str) -> None:
    with pytest.raises(StudyError, match=f"study '{name}': variant .* cannot be trained anew"):
        planned(name, inspect=[str(file)])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train__epochs": 3}, "nothing reads --set train.epochs=3: .*trained elsewhere, and trains nothing"),
        ({"data__train_images": 50}, "nothing reads --set data.train_images=50"),
        ({"inspect__temperature": 0.0}, "inspect: temperature: .*greater than 0"),
        ({"inspect": [5]}, "is not a list of network names"),
        ({"inspect": ["no/such/file"]}, "cannot be read: No such file"),
        ({"data__test_images": 10**6}, "data.test_images = 1000000, but 'fashion_mnist_mini' has 3000"),
        ({"seeds": 3}, "--seeds 3: theirs.pth was trained elsewhere, once"),
    ],
)
def test_what_does_not_fit_is_said(file: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(AblationError, match=message):
        planned("aggregation", **{"inspect": [str(file)], **settings})


def test_names_and_files_do_not_go_together(file: Path) -> None:
    with pytest.raises(SpecError, match="names networks and files"):
        planned("aggregation", inspect=["tau_1", str(file)])


def test_a_temperature_without_a_file_is_read_by_nothing() -> None:
    with pytest.raises(SpecError, match=r"nothing reads inspect\.temperature"):
        planned("aggregation", inspect__temperature=1.0)


def test_a_static_network_has_no_attention_to_look_into(file: Path) -> None:
    with pytest.raises(SpecError, match=r"theirs\.pth is static, and has no attention"):
        planned("attention_profile", inspect=[str(file)], model__layer="static")
    with pytest.raises(SpecError, match="an intervention on a static network would change nothing"):
        planned("aggregation", inspect=[str(file)], model__layer="static")


def test_it_is_not_tuned(file: Path) -> None:
    request = Request(get_preset("smoke"), {"inspect": [str(file)]})
    with pytest.raises(SpecError, match=r"tuning trains networks, and .*theirs\.pth was trained elsewhere"):
        make_tuning_plan(find_studies(["aggregation"], False, request), request, 3)


def test_names_of_networks_are_chosen_as_before() -> None:
    plan = planned("aggregation", "temperature", inspect=["tau_30"])
    assert {cell.network for cell in plan.cells_of("aggregation")} == {"tau_30"}
    assert not plan.networks


STUDY = """\
name: mine
question: Does it need its kernels?
reference: attention
inspect:
  checkpoint: theirs.pth
  temperature: 1.5
  model: {width: 0.5, depth: 1.0}
variants:
  attention: {}
  average: {intervention: {aggregation: average}}
"""


def test_a_study_file_names_its_checkpoint(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(STUDY)
    # Also from another folder: the path is relative to the study's file.
    plan = planned(str(path))
    (network,) = plan.networks.values()
    assert (network.file.path, network.file.temperature) == (str(file), 1.5)
    assert network.spec.model.width == 0.5
    assert load_study(path).networks[0].title == "theirs.pth"
    with pytest.raises(SpecError, match="study 'mine' sets it itself in every variant"):
        planned(str(path), model__width=0.35)


@pytest.mark.parametrize(
    ("old", "new", "line", "reason"),
    [
        ("  checkpoint: theirs.pth\n", "", 4, "'inspect' maps checkpoint to a file, found None"),
        ("checkpoint: theirs.pth", "checkpoint: 5", 4, "'inspect' maps checkpoint to a file, found 5"),
        ("temperature: 1.5", "temperature: -1", 6, "inspect.temperature: input should be greater than 0"),
        ("temperature: 1.5", "temperatur: 1", 6, "unknown key 'temperatur'. Did you mean 'temperature'"),
        ("temperature: 1.5", "train.epochs: 3", 4, "train.epochs is read by nothing: a checkpoint is measured"),
        ("width: 0.5", "width: wide", 7, "model.width"),
        ("average: {", "average: {model.width: 0.5, ", 5, "variant 'average' is a training of its own"),
        ("variants:", "networks: {a: {}}\nvariants:", 4, "the study has networks of its own"),
        ("reference: attention", "reference: attention\nmetric: cost/parameters", 6, "loads no network"),
    ],
)
def test_a_wrong_file_of_a_study_is_refused_with_its_line(
    tmp_path: Path, old: str, new: str, line: int, reason: str
) -> None:
    assert STUDY.count(old) == 1
    path = tmp_path / "mine.yaml"
    path.write_text(STUDY.replace(old, new))
    with pytest.raises(StudyError, match=f"mine.yaml:{line}: .*{reason}"):
        load_study(path)


def test_a_study_may_look_into_both_kinds_of_networks(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    own = STUDY[: STUDY.index("inspect")] + "networks:\n  tau_1: {train.temperature.start: 1}\n"
    path.write_text(own + f"  theirs: {{checkpoint: {file}}}\n" + STUDY[STUDY.index("variants") :])
    plan = planned(str(path), seeds=3)
    assert (len(plan.trials), len(plan.networks), len(plan.evaluations)) == (3, 1, 4)
    assert [len(plan.cells_of_row("mine", name, "average")) for name in ("tau_1", "theirs")] == [3, 1]
