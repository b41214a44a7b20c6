"""`check_layer` passes every kind that there is, and each broken kind fails the checks that are meant for it.

The kinds here are broken in one way each. `Sound` is the kind that they are made of.
"""

import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import dyconv
from dyconv import ArgumentError, ConvolutionLayer, DynamicConv2d
from dyconv.errors import LayerCheckError
from dyconv.kernels.pooling import average_pool
from dyconv.testing import GEOMETRIES, LayerReport, check_layer, handling, suite


class Sound(ConvolutionLayer):
    """A kind by attention alone: tanh of one Linear layer."""

    def __init__(
        self,
        *geometry: Any,
        num_kernels: int = 4,
        aggregation: str = "attention",
        sharpness: float = 1.0,
        sums_to_one: tuple[str, ...] = (),
    ) -> None:
        super().__init__(*geometry, num_kernels=num_kernels, aggregation=aggregation, sums_to_one=sums_to_one)
        self.routing, self.sharpness = nn.Linear(self.in_channels, num_kernels), sharpness
        self.reset_parameters()

    def attention(self, input: Tensor) -> Tensor:
        return torch.tanh(self.sharpness * self.routing(average_pool(input)))


class SoundForward(Sound):
    """A kind with a forward of its own: the output channels of a static kernel are scaled by two further attentions."""

    def __init__(self, *geometry: Any, aggregation: str = "attention", sharpness: float = 1.0) -> None:
        settings: dict[str, Any] = {"num_kernels": 1, "aggregation": aggregation}
        ConvolutionLayer.__init__(self, *geometry, **settings, attentions=("channel", "inverse"))
        if self.padding_mode != "zeros":
            raise ArgumentError("pads with zeros only")
        self.routing, self.sharpness = nn.Linear(self.in_channels, self.out_channels), sharpness
        self.reset_parameters()

    def attention(self, input: Tensor) -> Tensor:
        return torch.sigmoid(self.sharpness * self.routing(average_pool(input)))

    def begin_as_static(self) -> float:
        nn.init.zeros_(self.routing.weight)
        nn.init.zeros_(self.routing.bias)
        return 1.0

    def forward(self, input: Tensor) -> Tensor:
        if input.dim() == 3:
            return self.forward(input[None])[0]
        weights = self.attention(input)
        scale = self.aggregators["channel"](2 * weights) / self.aggregators["inverse"](2.2 - 2 * weights) * 1.2
        bias = None if self.bias is None else self.bias[0]
        output = F.conv2d(input, self.weight[0], bias, self.stride, self.padding, self.dilation, self.groups)
        return output * scale.to(output.dtype)[:, :, None, None]


FEW = {name: GEOMETRIES[name] for name in ("3x3", "depthwise 3x3")}
"""Enough to show a fault that each geometry has."""


@pytest.mark.parametrize("name", dyconv.available_layers())
def test_every_registered_kind_passes(name: str) -> None:
    # A forward of their own computes the same definition, such as in one compiled step.
    definition = True if name in ("dynamic", "condconv") else None
    report = check_layer(name, mixes_kernels=definition)
    assert report.faults == ()
    assert len(report.with_status("passed")) > 10 * len(GEOMETRIES)
    if name in ("dynamic", "condconv"):
        assert report.with_status("refused") == report.with_status("skipped") == ()


@pytest.mark.parametrize("normalization", dyconv.available_normalizations())
@pytest.mark.parametrize(
    "names", [tuple(FEW), pytest.param(tuple(GEOMETRIES), marks=pytest.mark.torture)], ids=["few", "all"]
)
def test_every_normalization_of_the_papers_layer_passes(normalization: str, names: tuple[str, ...]) -> None:
    # Weights are normalised before any geometry has its say.
    geometries = {name: GEOMETRIES[name] for name in names}
    options = {"normalization": normalization}
    check_layer(DynamicConv2d, options=options, num_kernels=3, mixes_kernels=True, geometries=geometries)


@pytest.mark.parametrize("layer", [Sound, SoundForward])
def test_a_sound_kind_passes_with_its_options(layer: type[ConvolutionLayer]) -> None:
    report = check_layer(layer, options={"sharpness": 0.5})
    assert report.faults == ()
    passed = {result.check for result in report.with_status("passed")}
    assert {"output", "gradients", "aggregator", "export", "cost", "pickle", "copy"} <= passed
    assert ("definition" in passed) == (layer is Sound)
    # A kind that does not say how it begins as a static layer need not.
    assert ("static start" in passed) == (layer is SoundForward)
    assert "Skipped:" in str(report)


def test_checks_leave_the_global_generator_alone() -> None:
    state = torch.get_rng_state()
    check_layer(Sound, geometries=FEW)
    assert torch.equal(torch.get_rng_state(), state)


class Unreached(Sound):
    def __init__(self, *geometry: Any, **settings: Any) -> None:
        super().__init__(*geometry, **settings)
        self.spare = nn.Parameter(torch.ones(3))


class Detached(Sound):
    def attention(self, input: Tensor) -> Tensor:
        return super().attention(input).detach()


class NormalizedOverTheBatch(Sound):
    def attention(self, input: Tensor) -> Tensor:
        weights = super().attention(input)
        return weights - weights.mean(0, keepdim=True)


class WithoutAggregator(Sound):
    def mixture(self, input: Tensor) -> Tensor:
        return self.attention(input)


class DeafToAggregator(Sound):
    def mixture(self, input: Tensor) -> Tensor:
        weights = self.attention(input)
        self.aggregator(weights)
        return weights


class Remembering(Sound):
    """Takes the weights of an earlier pass, as a cache that is not emptied does."""

    def mixture(self, input: Tensor) -> Tensor:
        weights: Tensor = super().mixture(input).detach()
        earlier = self.__dict__.get("earlier")
        self.__dict__["earlier"] = weights
        if earlier is None or earlier.shape != weights.shape:
            earlier = weights
        return super().mixture(input) + 0.1 * earlier


class KeepsTheLastAttention(Sound):
    def attention(self, input: Tensor) -> Tensor:
        self.last = super().attention(input)
        return self.last


class ForgetsABuffer(Sound):
    def __init__(self, *geometry: Any, **settings: Any) -> None:
        super().__init__(*geometry, **settings)
        self.fixed = torch.randn(self.num_kernels)

    def attention(self, input: Tensor) -> Tensor:
        return super().attention(input) + self.fixed.to(input.dtype)


class BoundToItself(Sound):
    def __init__(self, *geometry: Any, **settings: Any) -> None:
        super().__init__(*geometry, **settings)
        # A closure over the original, which a copy goes on to call.
        self.compute = lambda input: Sound.forward(self, input)

    def forward(self, input: Tensor) -> Tensor:
        output: Tensor = self.compute(input)
        return output


class RowByRow(Sound):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).contiguous()


class TooLarge(Sound):
    def forward(self, input: Tensor) -> Tensor:
        return F.pad(super().forward(input), (1, 0))


class Infinite(Sound):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) / 0


class InFloat32(Sound):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).float()


class Tempered(Sound):
    """A softmax kind: sound, and what the broken ones with a temperature are made of."""

    def __init__(self, *geometry: Any, num_kernels: int = 4, temperature: float = 30.0) -> None:
        super().__init__(*geometry, num_kernels=num_kernels, sums_to_one=("kernel",))
        self.register_buffer("temperature", torch.tensor(temperature))

    def attention(self, input: Tensor) -> Tensor:
        return torch.softmax(self.routing(average_pool(input)) / self.temperature, 1)


class IgnoresTemperature(Tempered):
    def attention(self, input: Tensor) -> Tensor:
        return torch.softmax(self.routing(average_pool(input)), 1)


class HidesTemperature(Sound):
    def __init__(self, *geometry: Any, num_kernels: int = 4, temperature: float = 30.0) -> None:
        super().__init__(*geometry, num_kernels=num_kernels)
        self.number = temperature

    def attention(self, input: Tensor) -> Tensor:
        return torch.softmax(self.routing(average_pool(input)) / self.number, 1)


class DeniesTemperature(Tempered):
    @property
    def reads_temperature(self) -> bool:
        return False


class ClaimsASum(Sound):
    def __init__(self, *geometry: Any, **settings: Any) -> None:
        super().__init__(*geometry, **settings, sums_to_one=("kernel",))


class Overflowing(Sound):
    def attention(self, input: Tensor) -> Tensor:
        weights = torch.exp(self.routing(average_pool(input)))
        return weights / weights.sum(1, keepdim=True)


class WrongStart(Sound):
    def begin_as_static(self) -> float:
        nn.init.zeros_(self.routing.weight)
        nn.init.ones_(self.routing.bias)
        return 1.0


class KernelCopies(Sound):
    def kernels(self) -> Any:
        for kernel, bias, channels in super().kernels():
            yield kernel.clone(), bias, channels


class StackedKernels(Sound):
    def kernels(self) -> Any:
        yield self.weight, None, slice(None)


class CostOfTheBatch(Sound):
    def multiply_adds(self, input: Tensor, output: Tensor) -> dict[str, int]:
        return {"convolution": output.numel()}


class NegativeCost(Sound):
    def multiply_adds(self, input: Tensor, output: Tensor) -> dict[str, int]:
        return {"convolution": 3, "attention": -1}


class CostWithoutAPurpose(Sound):
    def multiply_adds(self, input: Tensor, output: Tensor) -> dict[str, int]:
        return {"mixing": 3}


class AnotherDefinition(Sound):
    def mixture(self, input: Tensor) -> Tensor:
        weights: Tensor = super().mixture(input)
        return weights * weights.abs().sum(1, keepdim=True)


class RandomInEvaluation(Sound):
    def attention(self, input: Tensor) -> Tensor:
        return F.dropout(super().attention(input))


class _WrongDerivative(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor) -> Tensor:
        return input * 2

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]


class WrongGradient(Sound):
    def forward(self, input: Tensor) -> Tensor:
        output = super().forward(input)
        if input.dim() == 4:
            output = _WrongDerivative.apply(output)  # type: ignore[no-untyped-call]
        return output


class CoarseInFloat32(Sound):
    def attention(self, input: Tensor) -> Tensor:
        weights = super().attention(input)
        return weights.half().float() if weights.dtype == torch.float32 else weights


class BatchesOnly(Sound):
    def forward(self, input: Tensor) -> Tensor:
        self._check_images(input)
        return super().forward(input)


class TransposedAttention(Sound):
    def attention(self, input: Tensor) -> Tensor:
        weights = super().attention(input)
        return weights if input.dim() == 2 else weights.T


class CrashesInBfloat16(Sound):
    def attention(self, input: Tensor) -> Tensor:
        weights = super().attention(input)
        if average_pool(input).dtype == torch.bfloat16:
            # No quantile of torch's is made for bfloat16.
            return weights + torch.quantile(weights, 0.5, dim=1, keepdim=True)
        return weights


class InOneTypeOnly(Sound):
    def attention(self, input: Tensor) -> Tensor:
        weights = super().attention(input)
        average = average_pool(input)
        # Under autocast the weights are in bfloat16, and the average is not.
        return weights + 0 * torch.dot(weights[0], average[0, : self.num_kernels])


class HoldsAFunction(Sound):
    def __init__(self, *geometry: Any, **settings: Any) -> None:
        super().__init__(*geometry, **settings)
        self.activation = lambda logits: torch.tanh(logits)

    def attention(self, input: Tensor) -> Tensor:
        weights: Tensor = self.activation(self.routing(average_pool(input)))
        return weights


BROKEN: Mapping[type[ConvolutionLayer], set[str]] = {
    Unreached: {"training"},
    Detached: {"training", "gradients"},
    NormalizedOverTheBatch: {"batch"},
    WithoutAggregator: {"aggregator"},
    DeafToAggregator: {"aggregator"},
    Remembering: {"repeatable"},
    KeepsTheLastAttention: {"copy"},
    ForgetsABuffer: {"state"},
    BoundToItself: {"copy", "pickle"},
    RowByRow: {"channels-last"},
    TooLarge: {"output"},
    Infinite: {"output"},
    InFloat32: {"bfloat16", "gradients"},
    IgnoresTemperature: {"temperature"},
    HidesTemperature: {"temperature"},
    DeniesTemperature: {"temperature"},
    ClaimsASum: {"attention", "static start"},
    Overflowing: {"attention"},
    WrongStart: {"static start"},
    KernelCopies: {"kernels"},
    StackedKernels: {"kernels"},
    CostOfTheBatch: {"cost"},
    NegativeCost: {"cost"},
    CostWithoutAPurpose: {"cost"},
    AnotherDefinition: {"definition"},
    RandomInEvaluation: {"repeatable"},
    WrongGradient: {"gradients"},
    CoarseInFloat32: {"float64"},
    BatchesOnly: {"single image"},
    TransposedAttention: {"attention", "definition"},
    InOneTypeOnly: {"autocast"},
    HoldsAFunction: {"pickle"},
    CrashesInBfloat16: {"bfloat16"},
}


@pytest.mark.parametrize("layer", BROKEN, ids=lambda layer: layer.__name__)
def test_a_broken_kind_fails_the_check_that_is_meant_for_it(
    layer: type[ConvolutionLayer], monkeypatch: pytest.MonkeyPatch
) -> None:
    # None of them is broken in a way that only an export shows, and exports take longer than all other checks.
    monkeypatch.setattr(handling, "check_export", lambda subject: iter(()))
    with pytest.raises(LayerCheckError) as caught:
        check_layer(layer, geometries=FEW)
    report = caught.value.report
    assert isinstance(report, LayerReport)
    failed = {result.check for result in report.faults}
    assert failed == BROKEN[layer], str(report)
    assert isinstance(caught.value, AssertionError)
    for check in failed:
        assert f"\n- {check}: " in str(caught.value)


def test_a_sound_kind_with_a_temperature_passes() -> None:
    check_layer(Tempered, geometries=FEW)


def test_every_check_catches_a_broken_kind() -> None:
    caught = set().union(*BROKEN.values())
    assert {"output", *suite._CHECKS} <= caught


class NoDepthwise(Sound):
    def __init__(self, *geometry: Any, **settings: Any) -> None:
        super().__init__(*geometry, **settings)
        if self.groups == self.in_channels:
            raise ArgumentError("no depthwise layers")


class Nothing(Sound):
    def __init__(self, *geometry: Any, **settings: Any) -> None:
        raise ArgumentError("nothing at all")


class Crashing(Sound):
    def __init__(self, *geometry: Any, **settings: Any) -> None:
        raise KeyError("oops")


def test_a_geometry_that_is_refused_is_listed() -> None:
    report = check_layer(NoDepthwise)
    refused = [result.geometry for result in report.with_status("refused")]
    assert refused == [name for name, geometry in GEOMETRIES.items() if geometry.groups == 16]
    assert f"Refused:\n- no depthwise layers [{'; '.join(refused)}]" in str(report)


def test_a_class_that_refuses_everything_fails() -> None:
    with pytest.raises(LayerCheckError, match=r"Nothing refuses every geometry .*: nothing at all"):
        check_layer(Nothing)


def test_a_class_that_cannot_be_built_fails() -> None:
    with pytest.raises(LayerCheckError, match=r"the layer cannot be built: KeyError: 'oops'"):
        check_layer(Crashing)


def test_what_is_no_kind_is_an_error() -> None:
    with pytest.raises(ArgumentError, match=r"subclass of dyconv\.ConvolutionLayer"):
        check_layer(nn.Conv2d)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="'dynamic'"):
        check_layer("dynamik")


def test_the_checks_need_no_test_framework() -> None:
    code = "import sys, dyconv.testing; sys.exit('pytest' in sys.modules or '_pytest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
