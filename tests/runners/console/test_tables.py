"""What `list` and `plan` print."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from rich.console import Console, RenderableType

from ablations.datasets.registry import facts_of
from ablations.planning.plan import Plan, make_plan
from ablations.planning.request import Request
from ablations.presets import get_preset
from ablations.spec.trial import resolve
from ablations.study import Study, Variant
from runners.cli.plan import _as_placed, describe_conversion
from runners.console.tables import plan_overview, static_remarks, study_overview

Planner = Callable[..., Plan]


def printed(shown: RenderableType) -> str:
    console = Console(file=io.StringIO(), width=160, highlight=False)
    console.print(shown)
    return console.file.getvalue()  # type: ignore[attr-defined]


def numbers(text: str, study: str) -> list[str]:
    (line,) = (line for line in text.splitlines() if line.startswith(f"│ {study} "))
    return [cell.strip() for cell in line.split("│")[1:-1]][-6:]


def test_the_studies_with_their_needs() -> None:
    text = printed(study_overview(Request(get_preset("quick"))))
    assert numbers(text, "temperature")[-4:] == ["temperature", "6", "30", "0"]
    assert "Does near-uniform attention early in training help" in text
    assert numbers(text, "attention_profile")[-4:] == ["–", "3", "9", "0"]
    assert numbers(text, "cost")[-4:] == ["backbones", "16", "0", "16"]
    # Counted by hand in `test_sharing`.
    sharing = "166 trainings and 236 evaluations; one training per table row and seed would be 523."
    assert f"All together: {sharing}" in text


def test_the_plan_and_what_is_done(plan: Planner) -> None:
    fresh = plan("aggregation", "temperature", seeds=3)
    assert numbers(printed(plan_overview(fresh)), "aggregation")[-5:] == ["3", "6", "0", "24", "0"]
    trial = next(iter(fresh.evaluations.values())).network.fingerprint
    done = {trial, *(node.fingerprint for node in fresh.evaluations.values() if node.depends_on == trial)}
    text = printed(plan_overview(plan("aggregation", "temperature", seeds=3, done=done)))
    assert numbers(text, "aggregation")[-5:] == ["3", "6", "1", "24", "4"]
    assert numbers(text, "temperature")[-5:] == ["3", "18", "1", "0", "0"]
    assert "To do: 17 trainings, 20 evaluations." in text


def test_what_is_static_is_said_for_each_kind_of_network(plan: Planner) -> None:
    assert static_remarks(plan("temperature")) == (
        "Static by the paper's rule: the stem and the last 1x1 convolution of MobileNetV2; classifiers.",
    )
    several = plan("squeeze_excitation", "placement", preset="smoke")
    by_rule, chosen = static_remarks(several)
    assert by_rule == (
        "Static by the paper's rule: the stem and the last 1x1 convolution of MobileNetV2; the stem, the last 1x1 "
        "convolution and 22 convolutions of squeeze-and-excitation gates of SE-MobileNetV2; classifiers."
    )
    assert chosen == "Static because its model.where does not mean them: the other convolutions of 3 networks."
    told = " ".join(printed(plan_overview(several)).split())
    assert by_rule in told
    assert chosen in told


def test_layers_that_a_kind_cannot_replace_are_said() -> None:
    variants = [Variant(name="dynamic"), Variant(name="dcd", changes={"model.layer": "dcd"})]
    study = Study(name="kinds", title="Kinds", question="?", reference="dynamic", variants=variants)
    made = make_plan([study], Request(get_preset("smoke"), seeds=1))
    assert static_remarks(made)[1:] == (
        "Static because layer dcd cannot replace them: convolutions with groups (depthwise ones) of MobileNetV2.",
    )


@pytest.mark.parametrize(
    ("layer", "built_as"), [("dcd", "dcd"), ("partly_dynamic", "dynamic"), ("condconv", "dynamic")]
)
def test_the_description_of_a_network_is_that_of_its_own_kind(layer: str, built_as: str) -> None:
    model = resolve([{"model.depth": 0.35}], {"model.layer": layer}, 0).model
    placed = _as_placed(model)
    assert placed.layer == built_as
    description = describe_conversion(placed, facts_of("fashion_mnist_mini"))
    assert ("has groups" in description) == (layer == "dcd")
    assert description == describe_conversion(model, facts_of("fashion_mnist_mini"))


def test_networks_to_count_are_no_trainings(plan: Planner) -> None:
    made = plan("cost", "attention_profile")
    text = printed(plan_overview(made))
    assert numbers(text, "cost")[-5:] == ["1", "0", "0", "16", "0"]
    assert "9 trainings and 0 evaluations; one training per table row and seed would be 9." in text
    assert "To do: 9 trainings, 0 evaluations, 16 networks to count and time." in text
    text = printed(plan_overview(plan("cost", "attention_profile", done=set(made.costs))))
    assert numbers(text, "cost")[-5:] == ["1", "0", "0", "16", "16"]
    assert "To do: 9 trainings, 0 evaluations." in text


def test_a_name_with_markup_is_shown_literally() -> None:
    name = "[bold]x[/bold] \\[ <script> 🐙"
    own = Study(name=name, title="t", question="?", reference="a", variants=(Variant(name="a"),))
    assert name in printed(plan_overview(make_plan([own], Request(get_preset("smoke")))))
