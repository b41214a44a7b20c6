"""What does not fit between a file and a network: named with the nearest, and nothing is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import dyconv
from dyconv import (
    ArgumentError,
    CheckpointError,
    ConvolutionLayer,
    KeyRule,
    Layout,
    available_layouts,
    build_model,
    load_checkpoint,
    register_layer,
)
from dyconv.checkpoints.layouts import fits, get_layout, renamed
from dyconv.kernels.pooling import average_pool
from dyconv.layers import kinds
from tests.dyconv.checkpoints.foreign import AttentionConvolutions, foreign_network, own_network

LAYER = "features.3.conv.0.0"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "weights.pth"


def refused(model: nn.Module, path: Path, error: type[Exception] = CheckpointError, **settings: Any) -> str:
    """Return the message with which a file is refused, and check that the network is as it was."""
    modules = [type(module) for module in model.modules()]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(error) as caught:
        load_checkpoint(model, path, **settings)
    after = model.state_dict()
    assert [type(module) for module in model.modules()] == modules
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], value) for key, value in after.items())
    return str(caught.value)


def changed(path: Path, remove: str = "", **values: Tensor) -> None:
    """Save the weights of another network of ours, changed."""
    state = dict(own_network(seed=1).state_dict())
    state.pop(remove, None)
    for key, value in values.items():
        state[key.replace("__", ".")] = value
    torch.save(state, path)


def test_a_missing_and_a_left_over_key_name_each_other(path: Path) -> None:
    kernels = own_network().get_parameter(f"{LAYER}.weight").detach()
    changed(path, remove=f"{LAYER}.weight", features__3__conv__0__0__weights=kernels)
    message = refused(own_network(), path)
    assert f"not in the file (1): {LAYER}.weight (nearest: {LAYER}.weights" in message
    assert f"not in the network (1): {LAYER}.weights (nearest: {LAYER}.weight" in message
    assert message.endswith("Nothing was loaded.")


def test_many_of_them_are_counted(path: Path) -> None:
    changed(path, **{f"extra{index}": torch.ones(1) for index in range(9)})
    message = refused(own_network(), path)
    assert "not in the network (9): extra0; extra1; extra2; extra3; extra4; and 4 more" in message


def test_a_key_of_a_file_cannot_steer_a_terminal(path: Path) -> None:
    changed(path, **{"classifier.1.bi\x1b[2Jas": torch.ones(10), "\x1b[31m": torch.ones(1)}, remove="classifier.1.bias")
    message = refused(own_network(), path)
    assert "\\x1b[2J" in message
    assert "\x1b" not in message
    torch.save({"\x1b.weight": torch.ones(2)}, path)
    assert "\x1b" not in refused(own_network(), path)


def test_a_shape_that_differs(path: Path) -> None:
    changed(path, classifier__1__bias=torch.ones(7))
    assert "other shapes (1): classifier.1.bias (7,) for the network's (10,)" in refused(own_network(), path)
    # As many numbers in another order are another tensor.
    weight = own_network().get_parameter("classifier.1.weight").detach()
    changed(path, classifier__1__weight=weight.t().contiguous())
    assert "other shapes (1): classifier.1.weight" in refused(own_network(), path)


@pytest.mark.parametrize("value", [torch.ones(10, dtype=torch.int64), torch.ones(10, dtype=torch.complex64)], ids=str)
def test_a_type_that_differs(value: Tensor, path: Path) -> None:
    changed(path, classifier__1__bias=value)
    assert f"other types (1): classifier.1.bias ({value.dtype} for torch.float32)" in refused(own_network(), path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_kernels": 8}, "layers of the file have 4 kernels, and 8 in the network"),
        ({"num_kernels": None}, "the file is of a dynamic network, and this one is static: build it with num_kernels"),
        ({"reduction": 2}, "other hidden units of attention branches (see `reduction`) (24): 4 for 8 in features.1."),
        ({"where": dyconv.Role("projection")}, "dynamic in the file and static in the network (see `where`) (16): f"),
        ({"width": 0.5}, "other shapes"),
        ({"layer": "condconv"}, "not in the file (48): features.1.conv.0.0.routing.weight"),
    ],
    ids=str,
)
def test_advice_for_networks_built_otherwise(settings: dict[str, Any], message: str, path: Path) -> None:
    changed(path)
    text = refused(own_network(**settings), path)
    assert message in text, text


def test_layers_that_are_dynamic_in_the_network_alone(path: Path) -> None:
    torch.save(own_network(where=dyconv.Role("projection"), seed=1).state_dict(), path)
    text = refused(own_network(), path)
    assert "static in the file and dynamic in the network (see `where`) (" in text


def test_a_file_of_another_kind_of_network(path: Path) -> None:
    torch.save(build_model("resnet10", 10).state_dict(), path)
    assert "layout 'torchvision'" in refused(build_model("mobilenet_v2", 10), path)
    torch.save({"a.weight": torch.ones(2, 2)}, path)
    message = refused(build_model("mobilenet_v2", 10), path)
    assert "the layout of" in message
    assert "is not known. Its keys begin with 'a.weight'; the network's with 'features.0.0.weight'" in message
    assert f"Known: {', '.join(available_layouts())}." in message


@pytest.mark.parametrize("problem", ["shape", "left over", "missing"])
def test_a_branch_is_not_rebuilt_where_something_else_does_not_fit(problem: str, path: Path) -> None:
    def make(conv: nn.Conv2d) -> nn.Module:
        return AttentionConvolutions(conv, 4, bias=True)

    state = dict(foreign_network(make).state_dict())
    if problem == "shape":
        state["classifier.1.bias"] = torch.ones(3)
    elif problem == "left over":
        state["features.9.bias"] = torch.ones(3)
    else:
        del state["features.0.1.running_mean"]
    torch.save(state, path)
    refused(own_network(), path, temperature=1.0)


@pytest.mark.parametrize("num_kernels", [3, 8])
def test_another_number_of_kernels_is_never_adapted(num_kernels: int, path: Path) -> None:
    torch.save(foreign_network(lambda conv: AttentionConvolutions(conv, num_kernels, bias=True)).state_dict(), path)
    text = refused(own_network(), path, temperature=1.0)
    assert f"layers of the file have {num_kernels} kernels, and 4 in the network" in text


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf"), True, "1"])
def test_a_temperature_that_cannot_be(temperature: Any, path: Path) -> None:
    torch.save(foreign_network(lambda conv: AttentionConvolutions(conv, 4)).state_dict(), path)
    assert "temperature must be" in refused(own_network(), path, ArgumentError, temperature=temperature)


def test_a_temperature_that_the_file_holds_in_another_precision(path: Path) -> None:
    model = own_network()
    dyconv.set_temperature(model, 0.1)
    torch.save(model.state_dict(), path)
    report = load_checkpoint(own_network(), path, temperature=0.1)
    assert report.temperatures == (pytest.approx(0.1),)


def test_a_temperature_that_contradicts_the_file(path: Path) -> None:
    changed(path)
    text = refused(own_network(), path, ArgumentError, temperature=2.0)
    assert "the file holds the temperature 30 for features.1.conv.0.0, got temperature=2: leave it out" in text
    assert not load_checkpoint(own_network(), path, temperature=30.0).temperature_given


@pytest.mark.parametrize("settings", [{"layer": "condconv"}, {"num_kernels": None}, {"normalization": "sigmoid"}])
def test_a_temperature_that_nothing_reads(settings: dict[str, Any], path: Path) -> None:
    torch.save(own_network(seed=1, **settings).state_dict(), path)
    assert "no layer of this network reads a temperature, got 2.0" in refused(
        own_network(**settings), path, ArgumentError, temperature=2.0
    )


def test_a_file_of_ours_without_its_temperatures_needs_one(path: Path) -> None:
    state = {k: v for k, v in own_network(seed=1).state_dict().items() if not k.endswith("temperature")}
    torch.save(state, path)
    assert "holds no temperature for 24 layers" in refused(own_network(), path, ArgumentError)
    report = load_checkpoint(model := own_network(), path, temperature=2.0)
    assert {float(layer.temperature) for _, layer in dyconv.dynamic_layers(model)} == {2.0}
    assert report.temperature_given
    # A layer that reads none keeps its own.
    report = load_checkpoint(own_network(normalization="sigmoid"), path)
    assert len(report.kept) == 24
    assert report.temperatures == ()


def test_a_layout_can_be_chosen(path: Path) -> None:
    torch.save(foreign_network(lambda conv: AttentionConvolutions(conv, 4)).state_dict(), path)
    chosen = load_checkpoint(own_network(), path, layout="attention_convolutions", temperature=1.0)
    given = load_checkpoint(own_network(), path, layout=get_layout("attention_convolutions"), temperature=1.0)
    assert chosen == given
    assert "layout 'ours'" in refused(own_network(), path, layout="ours", temperature=1.0)
    with pytest.raises(CheckpointError, match=r"unknown layout 'attention'\. Did you mean 'attention_"):
        load_checkpoint(own_network(), path, layout="attention")


def test_a_kind_of_a_users_is_ours(path: Path) -> None:
    try:

        @register_layer("shouting")
        class Shouting(ConvolutionLayer):
            def __init__(self, *geometry: Any, num_kernels: int = 4, aggregation: str = "attention") -> None:
                super().__init__(*geometry, num_kernels=num_kernels, aggregation=aggregation)
                self.shout = nn.Linear(self.in_channels, num_kernels)
                self.reset_parameters()

            def attention(self, input: Tensor) -> Tensor:
                return torch.tanh(self.shout(average_pool(input)))

        theirs = own_network(layer="shouting", seed=1)
        torch.save(theirs.state_dict(), path)
        report = load_checkpoint(model := own_network(layer="shouting"), path)
        assert report.layout == "ours"
        assert all(torch.equal(value, model.state_dict()[key]) for key, value in theirs.state_dict().items())
    finally:
        kinds._KINDS.pop("shouting", None)


@pytest.mark.parametrize(
    ("pattern", "key", "is_fit"),
    [
        ("{layer}.weight", "a.b.weight", True),
        ("{layer}.weight", "weight", False),
        ("{layer}.weight", "a.weights", False),
        ("{layer}.fc.{value}", "a.b.fc.bias", True),
        ("{layer}.fc.{value}", "a.b.fc.c.bias", False),
        ("a.{rest}|b.{rest}", "b.c.d", True),
        ("{layer}.x", "a,x", False),
        ("{a}.{a}", "b.b", True),
        ("{a}.{a}", "b.c", False),
    ],
)
def test_patterns(pattern: str, key: str, is_fit: bool) -> None:
    assert fits(pattern, key) == is_fit


def test_renaming() -> None:
    assert renamed("body.{n}.{rest}", "features.{n}.conv.{rest}", "body.3.a.b") == "features.3.conv.a.b"
    assert renamed("body.{n}.{rest}", "features.{n}.conv.{rest}", "tail.3.a.b") is None


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: KeyRule("{layer}.a", "{layer}.b", "rows"), "unknown reshape of a key rule 'rows'"),
        (lambda: KeyRule("{layer}.a", "{layer}.{b}"), r"has \{b\}, which '\{layer\}.a' lacks"),
        (lambda: Layout("a", "", ("b",), paths=(("{x}.a", "{y}.a"),)), r"has \{y\}"),
        (lambda: Layout("", "", ()), "needs a name"),
    ],
    # A function's address is another one in each process.
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_malformed_layouts_are_errors(build: Any, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        build()


def test_two_keys_for_one_place(path: Path) -> None:
    state = dict(foreign_network(lambda conv: AttentionConvolutions(conv, 4)).state_dict())
    state[f"{LAYER}.attention_branch.squeeze.weight"] = state[f"{LAYER}.attention.fc1.weight"]
    torch.save(state, path)
    text = refused(own_network(), path, temperature=1.0)
    assert f"both go to '{LAYER}.attention_branch.squeeze.weight' by layout 'attention_convolutions'" in text
