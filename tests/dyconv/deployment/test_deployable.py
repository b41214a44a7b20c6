"""A deployable copy computes what its network computes, by constant weights, for every kind of layer and geometry."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.mobilenetv2 import InvertedResidual

from dyconv import (
    AdoptedCondConv2d,
    AggregationError,
    ArgumentError,
    CondConv2d,
    ConversionError,
    ConvolutionLayer,
    DCDConv2d,
    DynamicConv2d,
    DynamicLayer,
    DynamicLinear,
    ODConv2d,
    PartlyDynamicConv2d,
    average_pool,
    conversion_report,
    deployable,
    make_dynamic,
    register_aggregation,
    set_temperature,
)
from dyconv.aggregation import _STRATEGIES, AggregationContext
from dyconv.deployment.attention import ConstantRouting
from dyconv.deployment.mixing import Branches, MixedKernels
from dyconv.deployment.replacement import cheaper_form
from tests.dyconv.test_deployment import KINDS, images, network

IN = 6
FORMS = ("branches", "matmul")
GEOMETRIES: list[dict[str, Any]] = [
    {"kernel_size": 1},
    {"kernel_size": 1, "stride": 2},
    {"kernel_size": 1, "padding": 1},
    {"kernel_size": 1, "padding": 1, "stride": 2, "padding_mode": "replicate"},
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 3, "padding": 1, "groups": 2},
    {"kernel_size": 3, "padding": 1, "groups": IN, "out_channels": IN},
    {"kernel_size": 3, "stride": 2, "groups": IN},
    {"kernel_size": 3, "padding": (2, 1), "stride": (2, 1), "dilation": (2, 1)},
    {"kernel_size": 2, "padding": 1, "dilation": 3},
    {"kernel_size": 3, "padding": "valid"},
    {"kernel_size": 3, "padding": "same", "dilation": 2},
    {"kernel_size": (2, 3), "padding": "same"},
    {"kernel_size": (4, 3), "padding": "tf_same", "stride": 2},
    {"kernel_size": 2, "padding": "tf_same", "stride": 3},
    {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
    {"kernel_size": 2, "padding": "same", "padding_mode": "replicate"},
    {"kernel_size": 3, "padding": 1, "padding_mode": "circular", "groups": 3},
]


class TanhConv2d(ConvolutionLayer):
    """A kind of somebody else's that computes attention alone."""

    def __init__(self, *geometry: Any, **keywords: Any) -> None:
        super().__init__(*geometry, **keywords)
        self.routing = nn.Linear(self.in_channels, self.num_kernels)
        self.reset_parameters()

    def attention(self, input: Tensor) -> Tensor:
        return torch.tanh(self.routing(average_pool(input)))


class DoublingConv2d(TanhConv2d):
    """A kind whose forward is its own."""

    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


class DeployedDoubling(DoublingConv2d):
    """The same kind, which says how it is deployed."""

    def deployed(self, form: str) -> nn.Module:
        plain = TanhConv2d(self.in_channels, self.out_channels, self.kernel_size, num_kernels=self.num_kernels)
        plain.to(self.weight).load_state_dict(self.state_dict())
        return nn.Sequential(deployable(plain, form), Doubling())


class Doubling(nn.Module):
    def forward(self, input: Tensor) -> Tensor:
        return 2 * input


LAYERS: dict[str, tuple[type[ConvolutionLayer], dict[str, Any]]] = {
    "dynamic": (DynamicConv2d, {"temperature": 2.0}),
    "tempered sigmoid": (DynamicConv2d, {"normalization": "tempered_sigmoid", "temperature": 3.0}),
    "normalized sigmoid": (DynamicConv2d, {"normalization": "normalized_sigmoid"}),
    "signed": (DynamicConv2d, {"normalization": "signed"}),
    "max": (DynamicConv2d, {"aggregation": "max"}),
    "average": (DynamicConv2d, {"aggregation": "average"}),
    "average of sigmoids": (DynamicConv2d, {"aggregation": "average", "normalization": "sigmoid"}),
    "condconv": (CondConv2d, {}),
    "odconv": (ODConv2d, {"temperature": 1.0}),
    "odconv of one kernel": (ODConv2d, {"num_kernels": 1}),
    "partly_dynamic": (PartlyDynamicConv2d, {"share": 0.4, "temperature": 1.0}),
    "partly_dynamic average": (PartlyDynamicConv2d, {"aggregation": "average"}),
    "wholly dynamic": (PartlyDynamicConv2d, {"share": 1.0}),
    "dcd": (DCDConv2d, {}),
    "own": (TanhConv2d, {}),
}


def randomised(layer: nn.Module) -> nn.Module:
    """Give batch norms statistics and factors, as a training does; evaluate in double precision."""
    for module in layer.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_mean, module.weight, module.bias):
                assert tensor is not None
                nn.init.normal_(tensor)
            assert module.running_var is not None
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return layer.double().eval()


def pictures(*shape: int) -> Tensor:
    """Return images whose averages differ, so that their attentions do."""
    return torch.randn(*shape, dtype=torch.float64) + torch.randn(*shape[:2], 1, 1, dtype=torch.float64)


def assert_exact(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", LAYERS)
@torch.no_grad()
def test_each_kind_and_geometry_is_exact(kind: str, form: str) -> None:
    torch.manual_seed(0)
    build, keywords = LAYERS[kind]
    for i, geometry in enumerate(GEOMETRIES):
        if build is DCDConv2d and "groups" in geometry:
            continue
        if build is not DCDConv2d:
            keywords = {"num_kernels": 3} | keywords
        layer = randomised(build(IN, **{"out_channels": 12, "bias": i % 2 == 0} | geometry, **keywords))
        x = pictures(*((1, IN, 7, 9), (3, IN, 8, 6))[i // 2 % 2])
        expected, copied = layer(x), deployable(layer, form)
        assert_exact(copied(x), expected)
        assert_exact(copied(x[0]), expected[0])


def test_kernels_with_biases_are_exact_in_every_kind() -> None:
    torch.manual_seed(0)
    for build, keywords in LAYERS.values():
        layer, x = randomised(build(IN, 12, 3, padding=1, bias=True, **keywords)), pictures(2, IN, 5, 5)
        for form in FORMS:
            assert_exact(deployable(layer, form)(x), layer(x).detach())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("aggregation", ["attention", "average", "max"])
def test_linear_layers_are_exact_at_any_number_of_positions(form: str, aggregation: str) -> None:
    torch.manual_seed(0)
    for bias in (True, False):
        layer = DynamicLinear(IN, 5, bias, num_kernels=3, aggregation=aggregation).double()
        for shape in ((IN,), (2, IN), (2, 4, IN), (2, 3, 4, IN)):
            x = torch.randn(shape, dtype=torch.float64)
            assert_exact(deployable(layer, form)(x), layer(x).detach())


@pytest.mark.parametrize("form", FORMS)
def test_an_adopted_layer_takes_its_weights_with_each_call(form: str) -> None:
    torch.manual_seed(0)
    layer = AdoptedCondConv2d(IN, 8, 3, padding="tf_same", stride=2, num_kernels=3).double()
    x, weights = pictures(2, IN, 7, 6), torch.rand(2, 3, dtype=torch.float64)
    assert_exact(deployable(layer, form)(x, weights), layer(x, weights).detach())


@pytest.mark.parametrize("kind", [*KINDS, {"aggregation": "average"}], ids=str)
def test_a_network_is_copied_and_stays_as_it_is(kind: dict[str, Any]) -> None:
    model, x = network(**kind).double(), images(5).double()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    copied = deployable(model, "auto", (1, 28, 28))
    with torch.no_grad():
        assert_exact(copied(x), model(x))
    assert not any(isinstance(module, DynamicLayer) for module in copied.modules())
    assert not any(parameter.requires_grad for parameter in copied.parameters())
    assert conversion_report(model) is not None
    assert conversion_report(copied) is None
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert len(copied._forward_pre_hooks) == len(model._forward_pre_hooks) - 1


def test_a_deployed_network_keeps_its_own_temperature() -> None:
    model, x = network(temperature=1.0).double(), images().double()
    copied = deployable(model)
    with torch.no_grad():
        before = copied(x)
        set_temperature(model, 30.0)
        assert not torch.allclose(model(x), before)
        assert torch.equal(copied(x), before)
        assert_exact(deployable(model)(x), model(x))


def test_a_layer_that_is_used_twice_stays_one() -> None:
    layer = DynamicConv2d(4, 4, 1)
    copied = deployable(nn.ModuleList([layer, layer]))
    assert isinstance(copied, nn.ModuleList)
    assert copied[0] is copied[1]


def test_a_static_network_is_copied() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Dropout())
    copied, x = deployable(model), images(2)
    assert copied is not model
    assert model.training
    with torch.no_grad():
        assert torch.equal(copied(x), model[0](x))


def test_a_half_precision_network_gives_half_precision() -> None:
    model, x = network().bfloat16(), images().bfloat16()
    with torch.no_grad():
        for form in FORMS:
            output = deployable(model, form)(x)
            assert output.dtype == torch.bfloat16
            assert (output.float() - model(x).float()).norm() < 0.05 * model(x).float().norm()


def test_average_becomes_an_ordinary_convolution() -> None:
    copied = deployable(DynamicConv2d(4, 6, 3, aggregation="average"))
    sizes = [tuple(parameter.shape) for parameter in copied.parameters()]
    assert sizes == [(6, 4, 3, 3), (6,)]


@pytest.mark.parametrize("name", ["shuffle_per_image", "shuffle_across_images"])
def test_a_strategy_that_draws_has_no_constant_weights(name: str) -> None:
    with pytest.raises(AggregationError, match="draws are no constant weights: deploy the network with 'attention'"):
        deployable(network(aggregation=name))


@contextmanager
def registered(name: str) -> Iterator[None]:
    """Register a strategy of somebody else's for a while: it squares the weights."""

    @register_aggregation(name)
    def squared(attention: Tensor, context: AggregationContext) -> Tensor:
        return attention.square()

    try:
        yield
    finally:
        del _STRATEGIES[name]


def test_somebody_elses_strategy_is_kept() -> None:
    with registered("squared"):
        layer, x = DynamicConv2d(IN, 4, 3, aggregation="squared").double(), pictures(2, IN, 5, 5)
        for form in FORMS:
            assert_exact(deployable(layer, form)(x), layer(x).detach())


def test_somebody_elses_forward_says_how_or_is_an_error() -> None:
    torch.manual_seed(0)
    geometry = (IN, 4, 3)
    with pytest.raises(ConversionError, match=r"a DoublingConv2d computes more than attention.*define deployed"):
        deployable(DoublingConv2d(*geometry))
    layer, x = DeployedDoubling(*geometry).double(), pictures(2, IN, 5, 5)
    with torch.no_grad():
        for form in FORMS:
            assert_exact(deployable(layer, form)(x), layer(x))


def test_unknown_forms_and_missing_sizes_are_errors() -> None:
    model = nn.Sequential(DynamicConv2d(1, 2, 1))
    with pytest.raises(ArgumentError, match=r"unknown form 'branch'\. Did you mean 'branches'"):
        deployable(model, "branch")
    with pytest.raises(ArgumentError, match=r"give input_size=\(C, H, W\)"):
        deployable(model, "auto")


def test_auto_takes_the_cheaper_form_of_each_layer() -> None:
    # Counted by hand for K = 4 and 10 x 10 pixels: branches 4 (kernel + O) P, matmul 4 kernel + (kernel + C T T) P.
    pointwise, depthwise = DynamicConv2d(8, 8, 1), DynamicConv2d(8, 8, 3, padding=1, groups=8)
    model = nn.Sequential(pointwise, depthwise, nn.AdaptiveAvgPool2d(1), DynamicConv2d(8, 8, 1))
    copied = deployable(model, "auto", (8, 10, 10))
    assert isinstance(copied, nn.Sequential)
    kinds = [type(layer.kernels) for layer in copied if hasattr(layer, "kernels")]
    assert kinds == [MixedKernels, Branches, Branches]
    # 4 (64 + 1) P against 4 * 64 + 64 P.
    assert cheaper_form(DynamicLinear(64, 1), 1) == "branches"
    assert cheaper_form(DynamicLinear(64, 1), 2) == "matmul"


def test_sharing_of_a_routing_is_kept() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), InvertedResidual(4, 4, 1, 2))
    make_dynamic(model, layer="condconv", options={"share_routing": True}, seed=0)
    copied = deployable(model)
    routings = [module for module in copied.modules() if isinstance(module, ConstantRouting)]
    assert len(routings) == 1
    for name in ("1.conv.0.0", "1.conv.1.0"):
        # The layer that was replaced, with its kernels, is held by nothing.
        assert copied.get_submodule(name).block_routing.owner is routings[0]  # type: ignore[union-attr]
    with pytest.raises(ArgumentError, match="outside of a pass"):
        copied.get_submodule("1.conv.0.0")(torch.zeros(1, 4, 5, 5))


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
@pytest.mark.parametrize("deployed", [False, True])
def test_torch_script_names_the_way_that_works(deployed: bool) -> None:
    model = network()
    if deployed:
        model = deployable(model)
    with pytest.raises(
        ConversionError, match=r"TorchScript cannot compile .* dyconv\.deployable\(model\) to torch\.export"
    ):
        torch.jit.script(model)
