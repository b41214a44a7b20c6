"""Gates are told by what they do, whatever they are called; what is only called like one is none."""

import copy
from typing import Any

import pytest
import timm
import torch
from timm.layers import EcaModule, EffectiveSEModule, SEModule, SqueezeExcite
from timm.layers.cbam import CbamModule
from torch import Tensor, nn
from torchvision.models import densenet121, mobilenet_v2, mobilenet_v3_small, resnet18, resnet50
from torchvision.ops import SqueezeExcitation

from dyconv import make_dynamic
from dyconv.networks import gates
from dyconv.networks.roles import find_roles


class SEBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 4, 1), nn.ReLU(), nn.Conv2d(4, 16, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.body(x)


class InPlace(SEBlock):
    """The product is written into the input, and the pool is a mean."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.clone()
        return x.mul_(self.body[1:](x.mean((2, 3), keepdim=True)).expand_as(x))


class PoolOutside(nn.Module):
    """The pointwise layers are a module of their own, which knows of no pool."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Conv2d(16, 4, 1), nn.ReLU(), nn.Conv2d(4, 16, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.mlp(x.mean((2, 3), keepdim=True)))


class InlineBlock(nn.Module):
    """A block that holds the layers of its gate among its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 16, 1)
        self.fc1, self.fc2 = nn.Conv2d(16, 4, 1), nn.Conv2d(4, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        scale = torch.sigmoid(self.fc2(torch.relu(self.fc1(y.mean((2, 3), keepdim=True)))))
        return x + self.last(y * scale)


class NoiseLayer(nn.Module):
    """The name holds 'selayer', and nothing is gated."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(16, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x)


class PixelGate(NoiseLayer):
    """A product with what a 1 x 1 layer says of each pixel: no pool."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.conv(x))


class Shift(SEBlock):
    """A pool and two pointwise layers that are added, not multiplied."""

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def roles_of(part: nn.Module) -> dict[str, str]:
    model = nn.Sequential(nn.Conv2d(3, 16, 3), part, nn.Conv2d(16, 16, 3))
    return {name: role for name, role in find_roles(model).items() if name.startswith("1")}


GATES: dict[str, Any] = {
    "torchvision": lambda: SqueezeExcitation(16, 4),
    "timm SqueezeExcite": lambda: SqueezeExcite(16),
    "timm SEModule": lambda: SEModule(16),
    "timm EffectiveSEModule": lambda: EffectiveSEModule(16),
    "SEBlock": SEBlock,
    "InPlace": InPlace,
    "PoolOutside": PoolOutside,
}


@pytest.mark.parametrize("gate", GATES.values(), ids=GATES.keys())
@pytest.mark.parametrize(
    "wrap", [lambda part: part, nn.Sequential, lambda part: nn.Sequential(nn.Conv2d(16, 16, 3), part)]
)
def test_gates_of_any_name(gate: Any, wrap: Any) -> None:
    part = gate()
    roles = roles_of(wrap(part))
    inside = {f"1.{name}": role for name, role in roles_of(nn.Sequential(nn.Identity(), part)).items()}
    assert inside
    pointwise = [name for name, role in roles.items() if role == "squeeze_excitation"]
    assert len(pointwise) == sum(isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1) for m in part.modules())


def test_a_gate_among_the_layers_of_a_block() -> None:
    roles = roles_of(InlineBlock())
    assert [name for name, role in roles.items() if role == "squeeze_excitation"] == ["1.fc1", "1.fc2"]


@pytest.mark.parametrize("part", [NoiseLayer, PixelGate, Shift, lambda: EcaModule(16)])
def test_what_only_looks_like_one(part: Any) -> None:
    assert "squeeze_excitation" not in roles_of(part()).values()


def test_channel_attention_of_cbam_but_not_its_map() -> None:
    roles = roles_of(CbamModule(16))
    assert roles == {
        "1.channel.fc1": "squeeze_excitation",
        "1.channel.fc2": "squeeze_excitation",
        "1.spatial.conv.conv": "other",
    }


def test_a_densenet_has_no_gate() -> None:
    assert "squeeze_excitation" not in find_roles(densenet121()).values()


@pytest.mark.parametrize(
    "name", ["seresnext26ts", "regnety_002", "mobilenetv3_small_050", "efficientnet_b0", "ese_vovnet19b_slim"]
)
def test_networks_of_timms(name: str) -> None:
    model = timm.create_model(name)
    gated = [n for n, m in model.named_modules() if (isinstance(m, nn.Conv2d) and ".se." in f".{n}.") or ".attn." in n]
    gated = [n for n in gated if isinstance(model.get_submodule(n), nn.Conv2d)]
    assert gated
    assert [n for n, role in find_roles(model).items() if role == "squeeze_excitation"] == gated


class PooledByAConvolution(SEBlock):
    """A convolution as large as the map takes the place of the pool."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(16, 16, 8, groups=16), nn.Conv2d(16, 16, 1), nn.Sigmoid())


class PooledLate(SEBlock):
    """A convolution of the whole map comes before the pool."""

    def __init__(self) -> None:
        super().__init__()
        body = (nn.Conv2d(16, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 16, 1), nn.Sigmoid())
        self.body = nn.Sequential(*body)


@pytest.mark.parametrize("part", [PooledByAConvolution, PooledLate])
def test_a_gate_with_a_larger_convolution(part: Any) -> None:
    assert list(roles_of(part()).values()).count("squeeze_excitation") == 1


CHAINS: dict[str, Any] = {
    "mobilenet_v2": mobilenet_v2,
    "mobilenet_v3_small": mobilenet_v3_small,
    "resnet18": resnet18,
    "resnet50": resnet50,
    "timm": lambda: timm.create_model("mobilenetv3_small_050"),
    "dynamic": lambda: make_dynamic(mobilenet_v2()),
    "odconv": lambda: make_dynamic(mobilenet_v3_small(), layer="odconv"),
    "layers": lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, padding=1)),
    "shrinking": lambda: nn.Sequential(nn.Conv2d(3, 8, 3, stride=9), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)),
}


@pytest.mark.parametrize("build", CHAINS.values(), ids=CHAINS.keys())
def test_what_a_chain_of_layers_says_is_what_its_run_says(build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build()
    runs: list[nn.Module] = []
    observe = gates._observe

    def observed(module: nn.Module, *arguments: Any, **settings: Any) -> Any:
        runs.append(module)
        return observe(module, *arguments, **settings)

    monkeypatch.setattr(gates, "_observe", observed)
    roles, few = find_roles(model), len(runs)
    monkeypatch.setattr(gates, "_chain", lambda module: None)
    runs.clear()
    assert find_roles(model) == roles
    assert few <= len(runs)
    if build in (CHAINS["mobilenet_v2"], CHAINS["dynamic"]):
        # The blocks are chains between two ends; only the whole network has a forward of its own.
        assert few == 1


def test_looking_leaves_no_trace() -> None:
    model = nn.Sequential(nn.Conv2d(3, 16, 3), SEBlock(), nn.BatchNorm2d(16), nn.Dropout(), NoiseLayer()).train()
    calls: list[int] = []
    for module in model.modules():
        module.register_forward_hook(lambda *_: calls.append(1))
    before, generator = copy.deepcopy(model.state_dict()), torch.random.get_rng_state()
    find_roles(model)
    assert not calls
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), generator)
    model(torch.randn(2, 3, 8, 8))
    assert calls
