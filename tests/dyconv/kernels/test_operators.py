"""The operators that torch knows: checked by torch's own checker, and by what compilers, exports and counters make."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch._subclasses import FakeTensorMode
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate, distribute_module, distribute_tensor
from torch.export import Dim, export
from torch.func import functional_call, stack_module_state, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from dyconv import DynamicConv2d, ODConv2d
from dyconv.kernels import native
from tests.dyconv.definition import compiled as with_compiler
from tests.dyconv.layer_kinds import CASES, SHAPES, LayerCase, assert_alike, with_all_gradients

GEOMETRY = ([1, 1], [1, 1], [1, 1], 1)
ODCONV = [
    LayerCase(
        f"odconv-{name}",
        lambda shape=shape: ODConv2d(**shape, bias=False, num_kernels=2, temperature=2.0).eval(),  # type: ignore[misc]
        CASES[0].images,
    )
    for name, shape in SHAPES.items()
]
EVERY = [*CASES, *ODCONV]
each_case = pytest.mark.parametrize("case", EVERY, ids=[case.name for case in EVERY])


def usually(*names: str) -> pytest.MarkDecorator:
    """Every case; those whose names hold none of these words are left to `make torture`, as compilers are slow."""
    cases = []
    for case in EVERY:
        chosen = any(name in case.name for name in names)
        cases.append(pytest.param(case, id=case.name, marks=[] if chosen else [pytest.mark.torture]))
    return pytest.mark.parametrize("case", cases)


def drawn(*shape: int, wanted: bool = True) -> Tensor:
    return torch.randn(*shape).requires_grad_(wanted)


def images(*shape: int) -> Tensor:
    return torch.randn(*shape).contiguous(memory_format=torch.channels_last).requires_grad_()


def samples() -> dict[str, tuple[Any, tuple[Any, ...]]]:
    """An operator and its arguments by name: dense, pointwise and depthwise."""
    torch.manual_seed(0)
    ops = torch.ops.dyconv
    branch = drawn(4, 16), drawn(4), drawn(3, 4), drawn(3), torch.tensor(2.0)
    dense, depthwise = drawn(3, 24, 16, 3, 3), drawn(3, 16, 1, 3, 3)
    return {
        "mixed dense": (ops.mixed_conv2d, (images(5, 16, 6, 7), dense, drawn(5, 3), *GEOMETRY)),
        "mixed depthwise": (ops.mixed_conv2d, (images(5, 16, 6, 7), depthwise, drawn(5, 3), *GEOMETRY[:3], 16)),
        "attended dense": (ops.attended_conv2d, (images(5, 16, 6, 7), dense, *branch, *GEOMETRY)),
        "attended depthwise": (ops.attended_conv2d, (images(5, 16, 6, 7), depthwise, *branch, *GEOMETRY[:3], 16)),
        "each": (ops.depthwise_conv2d, (images(5, 16, 6, 7), drawn(5, 9, 16), [3, 3], *GEOMETRY[:3])),
    }


# Torch's checker looks at gradients of copies.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@with_compiler
@pytest.mark.parametrize("name", samples())
def test_torch_finds_nothing_wrong_with_an_operator(name: str) -> None:
    operator, arguments = samples()[name]
    torch.library.opcheck(operator, arguments)


@with_compiler
@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_gradients_have_the_shapes_that_are_promised(frozen: int) -> None:
    for name in ("mixed dense", "mixed depthwise"):
        operator, arguments = samples()[name]
        check_backward(operator, arguments, [number != frozen for number in range(3)])


def check_backward(operator: Any, arguments: tuple[Any, ...], needed: list[bool]) -> None:
    """A compiler lays out what comes after by the shapes and strides that are promised."""
    grad = torch.randn_like(operator(*arguments))
    with torch.no_grad():
        real = torch.ops.dyconv.mixed_conv2d_backward(grad, *arguments, needed)
        with FakeTensorMode() as mode:
            fakes = (mode.from_tensor(one) if isinstance(one, Tensor) else one for one in (grad, *arguments))
            promised = torch.ops.dyconv.mixed_conv2d_backward(*fakes, needed)
    assert [one.shape for one in real] == [one.shape for one in promised]
    for one, other, need in zip(real, promised, needed, strict=True):
        assert not need or one.stride() == other.stride()


@with_compiler
@pytest.mark.parametrize("name", samples())
def test_a_derivative_can_be_differentiated_again(name: str) -> None:
    operator, arguments = samples()[name]
    wanted = [one for one in arguments if isinstance(one, Tensor) and one.requires_grad]

    def penalty(arguments: tuple[Any, ...], wanted: list[Tensor]) -> list[Tensor]:
        output = operator(*arguments)
        first = torch.autograd.grad(
            (output if isinstance(output, Tensor) else output[0]).square().sum(), wanted, create_graph=True
        )
        return list(torch.autograd.grad(sum((g.square().sum() for g in first), torch.zeros(())), wanted))

    exact = tuple(
        one.detach().double().requires_grad_(one.requires_grad) if isinstance(one, Tensor) else one for one in arguments
    )
    exact_wanted = [one for one in exact if isinstance(one, Tensor) and one.requires_grad]
    for one, other in zip(penalty(arguments, wanted), penalty(exact, exact_wanted), strict=True):
        torch.testing.assert_close(one, other.float(), rtol=1e-3, atol=1e-3 * float(other.abs().max()))


# A memory format changes which algorithm is chosen, not how sizes are left open.
@usually("channels_last", "odconv", "linear")
def test_an_export_leaves_number_and_size_of_images_open(case: LayerCase) -> None:
    torch.manual_seed(0)
    layer = case.build().eval()
    dims = {0: Dim.DYNAMIC} if case.name == "linear" else {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    program = export(layer, (case.images(),), dynamic_shapes=(dims,))
    # It runs where nobody has installed this project.
    assert not [node for node in program.graph.nodes if str(node.target).startswith("dyconv")]
    exported = program.module()
    for batch, pixels in ((2, 6), (7, 11), (3, 20)):
        x = case.images(batch, 6 if case.name == "linear" else pixels)
        with torch.no_grad():
            torch.testing.assert_close(exported(x), layer(x), rtol=1e-4, atol=1e-5)


@usually("dynamic-dense_3x3-channels_last", "dynamic-grouped-channels_last", "odconv-depthwise")
def test_a_compiled_layer_takes_any_number_and_size_of_images(case: LayerCase) -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    layer = case.build()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(layer, backend=counter, fullgraph=True, dynamic=True)

    def one_graph(x: Tensor) -> Tensor:
        return compiled(x)  # type: ignore[no-any-return]

    for batch, pixels in ((5, 6), (7, 11), (3, 20), (9, 8)):
        x = case.images(batch, pixels)
        assert_alike(with_all_gradients(layer, x, one_graph), with_all_gradients(layer, x))
    # Once, and once more for whatever the first sizes had in common by chance.
    assert counter.frame_count <= 2


@with_compiler
def test_a_compiled_layer_keeps_its_operator() -> None:
    torch._dynamo.reset()
    layer = DynamicConv2d(16, 24, 1, bias=False)
    seen: list[str] = []

    def backend(graph: Any, inputs: Any) -> Callable[..., Any]:
        seen.extend(str(node.target) for node in graph.graph.nodes)
        return graph.forward  # type: ignore[no-any-return]

    torch.compile(layer, backend=backend, fullgraph=True)(images(3, 16, 6, 6))
    assert "dyconv.attended_conv2d.default" in seen


@with_compiler
def test_a_traced_graph_with_open_sizes_takes_others() -> None:
    layer = DynamicConv2d(16, 24, 3, padding=1, bias=False)
    with torch.no_grad():
        trace = make_fx(layer, tracing_mode="symbolic", _allow_non_fake_inputs=True)
        graph = trace(images(3, 16, 6, 6))
        other = images(7, 16, 9, 8)
        torch.testing.assert_close(graph(other), layer(other), rtol=1e-4, atol=1e-5)


@with_compiler
@pytest.mark.parametrize("name", ["mixed dense", "mixed depthwise", "each"])
def test_counted_operations_are_those_of_the_formula(name: str) -> None:
    operator, arguments = samples()[name]
    input, kernels = arguments[:2]
    with FlopCounterMode(display=False) as forward:
        output = operator(*arguments)
    with FlopCounterMode(display=False) as backward:
        output.sum().backward()
    # Each of 5 · 6 · 7 pixels of each output channel sums over the inputs and taps that it meets.
    per_pixel = kernels.shape[2:].numel() if name != "each" else 9
    expected = 5 * 6 * 7 * output.shape[1] * per_pixel
    if name != "each":
        expected += 5 * kernels.numel()  # each of five kernels is mixed from three
    assert forward.get_total_flops() == 2 * expected
    assert backward.get_total_flops() == 4 * expected
    assert input.grad is not None


@with_compiler
@pytest.mark.parametrize("name", samples())
def test_under_autocast_an_operator_stays_exact(name: str) -> None:
    operator, arguments = samples()[name]
    halved = tuple(one.detach().bfloat16() if isinstance(one, Tensor) else one for one in arguments)
    exact = operator(*(one.float() if isinstance(one, Tensor) else one for one in halved))
    with torch.autocast("cpu", torch.bfloat16):
        result = operator(*halved)
    for one, other in zip([result] if isinstance(result, Tensor) else result, [exact], strict=False):
        other = other if isinstance(other, Tensor) else other[0]
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other)


def test_an_operator_has_shapes_on_meta() -> None:
    for operator, arguments in samples().values():
        real = operator(*arguments)
        on_meta = operator(*(one.to("meta") if isinstance(one, Tensor) else one for one in arguments))
        for one, other in zip([real], [on_meta], strict=True):
            pairs = [(one, other)] if isinstance(one, Tensor) else list(zip(one, other, strict=True))
            assert all(a.shape == b.shape and a.stride() == b.stride() for a, b in pairs)


@with_compiler
def test_other_dtypes_are_torchs_business() -> None:
    for operator, arguments in samples().values():
        result = operator(*arguments)
        exact = operator(*(one.double() if isinstance(one, Tensor) else one for one in arguments))
        result, exact = (one if isinstance(one, Tensor) else one[0] for one in (result, exact))
        assert exact.dtype == torch.float64
        torch.testing.assert_close(result, exact.float(), rtol=1e-4, atol=1e-3)


@with_compiler
def test_an_ensemble_is_computed_at_once() -> None:
    layers = [DynamicConv2d(16, 24, 1, bias=False) for _ in range(3)]
    parameters, buffers = stack_module_state(layers)  # type: ignore[arg-type]
    base = copy.deepcopy(layers[0])
    x = images(5, 16, 6, 6).detach()
    together = vmap(lambda p, b: functional_call(base, (p, b), (x,)))(parameters, buffers)
    for one, layer in zip(together, layers, strict=True):
        torch.testing.assert_close(one, layer(x), rtol=1e-4, atol=1e-5)


@each_case
def test_a_checkpointed_layer_has_the_same_gradients(case: LayerCase) -> None:
    torch.manual_seed(0)
    layer, x = case.build(), case.images()

    def again(x: Tensor) -> Tensor:
        return checkpoint(layer, x, use_reentrant=False)  # type: ignore[no-any-return]

    assert_alike(with_all_gradients(layer, x, again), with_all_gradients(layer, x))


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'rendezvous'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("kind", [DynamicConv2d, ODConv2d])
def test_fully_sharded_layers_train_the_same(kind: type[nn.Module], one_process: None) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(kind(16, 24, 1, bias=False), nn.ReLU(), kind(24, 24, 3, padding=1, groups=24, bias=False))
    other, x = copy.deepcopy(model), images(5, 16, 6, 6)
    mesh = init_device_mesh("cpu", (1,))
    for layer in model:
        fully_shard(layer, mesh=mesh)  # type: ignore[arg-type]
    fully_shard(model, mesh=mesh)
    for network in (model, other):
        network(x).square().sum().backward()
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        if theirs.grad is not None:
            torch.testing.assert_close(ours.grad.full_tensor(), theirs.grad, rtol=1e-4, atol=1e-4)  # type: ignore[union-attr]


def test_distributed_tensors_are_computed_by_torch(one_process: None) -> None:
    torch.manual_seed(0)
    layer = DynamicConv2d(16, 24, 1, bias=False)
    other, x = copy.deepcopy(layer), images(5, 16, 6, 6).detach()
    mesh = init_device_mesh("cpu", (1,))
    distribute_module(layer, mesh)
    layer(distribute_tensor(x, mesh, [Replicate()])).square().sum().backward()
    other(x).square().sum().backward()
    for ours, theirs in zip(layer.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours.grad.full_tensor(), theirs.grad, rtol=1e-4, atol=1e-4)  # type: ignore[union-attr]


@with_compiler
def test_without_compiled_kernels_torch_computes_an_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = {name: operator(*arguments) for name, (operator, arguments) in samples().items()}
    monkeypatch.setattr(native, "available", lambda: False)
    for name, (operator, arguments) in samples().items():
        one, other = (
            result if isinstance(result, Tensor) else result[0] for result in (operator(*arguments), expected[name])
        )
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-3)
