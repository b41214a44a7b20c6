"""What others do to a network: export, compile, autocast, copy, save, channels-last, and training in two processes."""

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.export import Dim, export
from torch.nn.parallel import DistributedDataParallel
from torchvision.models.mobilenetv2 import InvertedResidual
from torchvision.models.resnet import BasicBlock

from dyconv import (
    AggregationError,
    CondConv2d,
    DynamicConv2d,
    DynamicLinear,
    build_model,
    dynamic_layers,
    make_dynamic,
    set_temperature,
)
from dyconv.kernels.tracing import remembered

KINDS: list[dict[str, Any]] = [
    {},
    {"layer": "condconv"},
    {"layer": "condconv", "options": {"share_routing": True}},
    {"layer": "dcd", "num_kernels": 4},
    {"layer": "odconv"},
    {"layer": "partly_dynamic"},
    {"normalization": "sigmoid"},
    {"normalization": "signed"},
    {"aggregation": "max"},
]


def network(seed: int = 0, **options: Any) -> nn.Module:
    """A few blocks of torchvision's, which between them use most algorithms, down to 2 x 2 pixels."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Conv2d(1, 8, 3, stride=4, padding=1, bias=False),
            nn.BatchNorm2d(8),
            InvertedResidual(8, 16, 2, 2),
            BasicBlock(16, 16),
            InvertedResidual(16, 16, 2, 6),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(16, 10),
        )
    make_dynamic(model, **({"num_kernels": 3, "seed": seed} | options))
    with torch.no_grad():
        for _ in range(2):
            model.train()(images(16))
    return model.eval()


def images(batch: int = 4) -> Tensor:
    g = torch.Generator().manual_seed(batch)
    return torch.randn(batch, 1, 28, 28, generator=g) + 2 * torch.randn(batch, 1, 1, 1, generator=g)


# As layers, all kinds and normalisations are exported in test_layer_checks.
EXPORTED: list[dict[str, Any]] = [{}, {"layer": "condconv", "options": {"share_routing": True}}, {"aggregation": "max"}]


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=() if kind in EXPORTED else pytest.mark.torture, id=str(kind)) for kind in KINDS]
)
def test_an_exported_network_gives_the_same(kind: dict[str, Any]) -> None:
    model, x = network(**kind), images()
    exported = export(model, (x,)).module()
    assert all(layer.aggregator.context.forward_pass.next_step == 2 for _, layer in dynamic_layers(model))
    with torch.no_grad():
        torch.testing.assert_close(exported(x), model(x))


@pytest.mark.torture
@pytest.mark.slow
def test_a_whole_backbone_is_exported() -> None:
    model = build_model("mobilenet_v2", 10, width=0.35, depth=0.3, in_channels=1, num_kernels=4, seed=0)
    with torch.no_grad():
        model.train()(images(16))
        exported = export(model.eval(), (images(),)).module()
        torch.testing.assert_close(exported(images()), model(images()))


def test_an_exported_network_takes_any_batch() -> None:
    model = network()
    exported = export(model, (images(),), dynamic_shapes=({0: Dim("batch", min=2)},)).module()
    with torch.no_grad():
        for batch in (2, 9, 70):
            torch.testing.assert_close(exported(images(batch)), model(images(batch)), rtol=1e-4, atol=1e-5)


def test_an_exported_network_can_be_saved_and_loaded(tmp_path: Path) -> None:
    model, x = network(temperature=2.0), images()
    torch.export.save(export(model, (x,)), tmp_path / "network.pt2")
    with torch.no_grad():
        torch.testing.assert_close(torch.export.load(tmp_path / "network.pt2").module()(x), model(x))


@pytest.mark.parametrize("name", ["shuffle_per_image", "shuffle_across_images"])
def test_a_random_strategy_is_not_frozen_into_an_export(name: str) -> None:
    with pytest.raises(AggregationError, match="cannot be exported"):
        export(network(aggregation=name), (images(),))


@pytest.mark.parametrize(
    "layer",
    [
        DynamicConv2d(8, 8, 3, padding=1, groups=8),
        DynamicConv2d(8, 6, 3, padding="tf_same", stride=2, padding_mode="zeros"),
        CondConv2d(8, 8, 1),
        nn.Sequential(nn.Flatten(2), DynamicLinear(4, 5)),
    ],
    ids=["depthwise on 2 x 2", "tf_same", "condconv", "linear"],
)
# The second does all that the first does, and traces the backward pass as well.
@pytest.mark.parametrize("backend", [pytest.param("eager", marks=pytest.mark.torture), "aot_eager"])
def test_a_compiled_layer_gives_the_same_and_the_same_gradients(layer: nn.Module, backend: str) -> None:
    torch._dynamo.reset()
    other, x = copy.deepcopy(layer), torch.randn(5, 8, 2, 2)
    y, expected = torch.compile(layer, backend=backend, fullgraph=True)(x), other(x)
    torch.testing.assert_close(y, expected)
    y.square().sum().backward()
    expected.square().sum().backward()
    for ours, theirs in zip(layer.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)
        ours.grad = None


@pytest.mark.torture
@pytest.mark.slow
def test_a_compiled_network_trains_in_one_graph() -> None:
    torch._dynamo.reset()
    model = network().train()
    counter = CompileCounterWithBackend("aot_eager")
    other, compiled = copy.deepcopy(model), torch.compile(model, backend=counter, fullgraph=True)
    for step in range(3):
        set_temperature(model, 3.0 - step)
        set_temperature(other, 3.0 - step)
        y, expected = compiled(images(8)), other(images(8))
        torch.testing.assert_close(y, expected)
        y.square().sum().backward()
        expected.square().sum().backward()
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-4)
    assert counter.frame_count == 1, "neither a temperature nor a step makes a new graph"


@pytest.mark.slow
def test_a_compiled_random_strategy_still_draws_anew_for_each_pass() -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 1))
    make_dynamic(model, aggregation="shuffle_across_images", temperature=0.1, seed=0)
    other, compiled = copy.deepcopy(model), torch.compile(model, backend="eager")
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours = [compiled(images(8)) for _ in range(3)]
        theirs = [other(images(8)) for _ in range(3)]
    assert not torch.equal(ours[0], ours[1])
    for compiled_pass, eager_pass in zip(ours, theirs, strict=True):
        torch.testing.assert_close(compiled_pass, eager_pass)


def test_a_cache_steps_aside_for_a_compiler() -> None:
    calls = []

    @remembered
    def double(n: int) -> int:
        calls.append(n)
        return 2 * n

    assert [double(2), double(2), double(3)] == [4, 4, 6]
    assert calls == [2, 3]


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("channels_last", [False, True])
def test_autocast_and_channels_last(kind: dict[str, Any], channels_last: bool) -> None:
    model, x = network(**kind), images(8)
    with torch.no_grad():
        expected = model(x)
    if channels_last:
        model, x = model.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        torch.testing.assert_close(model(x), expected, rtol=1e-3, atol=1e-4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = model(x)
    assert y.dtype == torch.bfloat16
    assert (y.float() - expected).norm() < 0.1 * expected.norm()
    y.float().square().sum().backward()
    untouched = {"max": ("squeeze", "excite")}.get(kind.get("aggregation", ""), ())
    for name, parameter in model.named_parameters():
        if not any(part in name for part in untouched):
            assert parameter.grad is not None, name
            assert parameter.grad.dtype == torch.float32
            assert parameter.grad.isfinite().all()


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_copies_and_states_compute_the_same(kind: dict[str, Any], tmp_path: Path) -> None:
    model, x = network(**kind), images()
    reads = set_temperature(model, 1.5)
    has_temperature = kind.get("layer") in (None, "odconv", "partly_dynamic") and "normalization" not in kind
    assert reads == (len(list(dynamic_layers(model))) if has_temperature else 0)
    torch.save(model.state_dict(), tmp_path / "state.pt")
    fresh = network(**kind, seed=1)
    with torch.no_grad():
        assert not torch.equal(fresh(x), model(x))
        fresh.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
        assert torch.equal(fresh(x), model(x))
        assert torch.equal(copy.deepcopy(model)(x), model(x))


STRATEGIES = ("attention", "average")


def _rank(rank: int, folder: str) -> None:
    """One of two processes: half of the batch, and the gradients it ends up with."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    half = images(8)[4 * rank : 4 * rank + 4]
    for aggregation in STRATEGIES:
        model = network(aggregation=aggregation, temperature=1.0)
        parallel = DistributedDataParallel(model, find_unused_parameters=aggregation != "attention")
        parallel(half).square().mean().backward()
        torch.save(_gradients(model), f"{folder}/{aggregation}{rank}.pt")
    torch.distributed.destroy_process_group()


def _gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.slow
def test_two_processes_have_the_gradients_of_one(tmp_path: Path) -> None:
    mp.spawn(_rank, (str(tmp_path),), nprocs=2)
    for aggregation in STRATEGIES:
        # In evaluation mode batch norms use what they have seen, so that the halves of a batch make a whole.
        model = network(aggregation=aggregation, temperature=1.0)
        model(images(8)).square().mean().backward()
        expected = _gradients(model)
        both = [torch.load(tmp_path / f"{aggregation}{rank}.pt", weights_only=True) for rank in (0, 1)]
        assert set(both[0]) == set(both[1]) == set(expected)
        assert any("attention_branch" in name for name in expected) == (aggregation == "attention")
        for name, gradient in expected.items():
            assert torch.equal(both[0][name], both[1][name])
            torch.testing.assert_close(both[0][name], gradient, rtol=1e-3, atol=1e-5)
