"""Compiled kernels and hand-written derivatives step aside: for modes, transforms, tensor subclasses, what is replaced.

Each case is a call that torch's own convolution can do, and the layer must do it by torch's own operations.
"""

import copy
import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.autograd import forward_ad
from torch.func import functional_call, grad, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from dyconv import DynamicConv2d, aggregation, make_dynamic
from dyconv.kernels import native
from tests.dyconv.definition import compiled as with_compiler
from tests.dyconv.layer_kinds import CASES, NAMES, LayerCase, assert_alike, in_double, with_all_gradients

each_case = pytest.mark.parametrize("case", CASES, ids=NAMES)


class Int8(Tensor):
    """A weight that holds no numbers of its own, as torchao's: it is made of int8 ones and a scale where it is used."""

    @staticmethod
    def __new__(cls: type["Int8"], numbers: Tensor, scale: Tensor) -> "Int8":
        return Tensor._make_wrapper_subclass(cls, numbers.shape, dtype=scale.dtype)  # type: ignore[attr-defined,no-any-return]

    def __init__(self, numbers: Tensor, scale: Tensor) -> None:
        self.numbers, self.scale = numbers, scale

    @classmethod
    def of(cls, weight: Tensor) -> "Int8":
        scale = weight.detach().abs().max() / 127
        return cls((weight.detach() / scale).round().to(torch.int8), scale)

    def plain(self) -> Tensor:
        return self.numbers.to(self.scale.dtype) * self.scale

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.detach.default:
            return cls(args[0].numbers, args[0].scale)
        made_plain = tree_map(lambda item: item.plain() if isinstance(item, Int8) else item, (args, kwargs or {}))
        return func(*made_plain[0], **made_plain[1])


class Named(Tensor):
    """A subclass that only carries a name, through `__torch_function__`."""


class Counting(TorchDispatchMode):
    """Counts the products and convolutions that torch is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.products = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.products += any(word in str(func) for word in ("mm", "conv", "mul"))
        return func(*args, **(kwargs or {}))


@each_case
def test_fake_tensors_have_shapes_and_no_memory(case: LayerCase) -> None:
    layer, images = case.build(), case.images()
    expected = layer(images)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = layer(mode.from_tensor(images))
        assert type(layer(images)) is type(fake)
    assert fake.shape == expected.shape
    with FakeTensorMode() as mode:
        inside, fake_images = case.build(), mode.from_tensor(images).requires_grad_()
        inside(fake_images).sum().backward()
        with torch.no_grad():
            inside(fake_images[:1])
    assert fake_images.grad is not None
    outside = copy.deepcopy(layer)
    fake_state = {name: mode.from_tensor(value) for name, value in outside.state_dict().items()}
    assert functional_call(outside, fake_state, (mode.from_tensor(images),)).shape == expected.shape


@each_case
def test_a_traced_graph_is_the_whole_layer(case: LayerCase) -> None:
    layer, images, others = case.build(), case.images(), case.images()
    for train in (True, False):
        with torch.set_grad_enabled(train):
            graph = make_fx(lambda x: layer(x))(images)
            torch.testing.assert_close(graph(others), layer(others), rtol=1e-3, atol=1e-4)


@each_case
def test_products_are_counted_forward_and_backward(case: LayerCase) -> None:
    layer, images = case.build(), case.images().requires_grad_()
    with FlopCounterMode(display=False) as forward:
        output = layer(images)
    with FlopCounterMode(display=False) as both:
        layer(images).sum().backward()
    assert 0 < forward.get_total_flops() < both.get_total_flops()
    with Counting() as backward_alone:
        layer(images).sum()
    seen = backward_alone.products
    assert seen
    with Counting() as backward_alone:
        output.sum().backward()  # of a forward pass that nobody watched, or that was counted
    assert backward_alone.products
    unwatched = layer(images).sum()
    with Counting() as backward_alone:
        unwatched.backward()
    assert backward_alone.products


@each_case
@pytest.mark.parametrize("part", ["excite", "squeeze", "routing"])
def test_int8_weights_of_attention(case: LayerCase, part: str) -> None:
    layer, images = case.build(), case.images()
    modules = [module for name, module in layer.named_modules() if name.endswith(part)]
    if not modules:
        pytest.skip("another kind of attention")
    weight = Int8.of(modules[0].weight)  # type: ignore[arg-type]
    dense = copy.deepcopy(layer)
    dense.get_submodule(next(name for name, _ in layer.named_modules() if name.endswith(part))).weight = nn.Parameter(
        weight.plain(), requires_grad=False
    )
    modules[0].weight = nn.Parameter(weight, requires_grad=False)
    for batch in (1, 3):
        with torch.no_grad():
            torch.testing.assert_close(layer(images[:batch]), dense(images[:batch]), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(layer(images), dense(images), rtol=1e-3, atol=1e-4)


@each_case
def test_weights_and_images_of_subclasses(case: LayerCase) -> None:
    layer, images = case.build(), case.images()
    expected = layer(images)
    assert type(layer(images.as_subclass(Named))) is Named  # type: ignore[arg-type]
    torch.testing.assert_close(layer(images.as_subclass(Named)).as_subclass(Tensor), expected, rtol=1e-3, atol=1e-4)  # type: ignore[arg-type]
    weight = Int8.of(layer.weight)  # type: ignore[arg-type]
    state = {name: value.detach() for name, value in layer.state_dict().items()}
    dense = functional_call(layer, state | {"weight": weight.plain()}, (images,))
    torch.testing.assert_close(
        functional_call(layer, state | {"weight": weight}, (images,)), dense, rtol=1e-3, atol=1e-4
    )


@each_case
def test_images_that_are_to_be_negated_when_they_are_read(case: LayerCase) -> None:
    layer, images = case.build(), case.images()
    negated = torch._neg_view(images)
    assert negated.is_neg()
    torch.testing.assert_close(layer(negated), layer(-images), rtol=1e-3, atol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(layer(negated), layer(-images), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(layer(negated[:1]), layer(-images[:1]), rtol=1e-3, atol=1e-4)


@each_case
def test_per_image_gradients(case: LayerCase) -> None:
    layer, images = case.build(), case.images()
    parameters = {name: value.detach() for name, value in layer.named_parameters()}

    def loss(parameters: dict[str, Tensor], image: Tensor) -> Tensor:
        return functional_call(layer, parameters, (image[None],)).square().sum()

    per_image = vmap(grad(loss), (None, 0))(parameters, images)
    for index, image in enumerate(images):
        single = grad(loss)(parameters, image)
        for name, value in single.items():
            torch.testing.assert_close(per_image[name][index], value, rtol=1e-3, atol=1e-3)


@each_case
def test_many_gradients_at_once(case: LayerCase) -> None:
    layer, images = case.build(), case.images().requires_grad_()
    output = layer(images)
    seeds = torch.randn(4, *output.shape)
    wanted = [images, *layer.parameters()]
    together = torch.autograd.grad(output, wanted, seeds, is_grads_batched=True, retain_graph=True)
    for index, seed in enumerate(seeds):
        alone = torch.autograd.grad(output, wanted, seed, retain_graph=True)
        assert_alike([batch[index] for batch in together], list(alone))


@pytest.mark.filterwarnings("ignore")
@each_case
def test_forward_mode_derivatives(case: LayerCase) -> None:
    layer, images = case.build().double(), case.images().double()
    tangent = torch.randn_like(images)
    with forward_ad.dual_level():
        _, derivative = forward_ad.unpack_dual(layer(forward_ad.make_dual(images, tangent)))
    step = 1e-6
    expected = (layer(images + step * tangent) - layer(images - step * tangent)) / (2 * step)
    torch.testing.assert_close(derivative, expected, rtol=1e-4, atol=1e-6)


@each_case
@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing(case: LayerCase, reentrant: bool) -> None:
    layer, images = case.build(), case.images()
    run = lambda x: checkpoint(layer, x, use_reentrant=reentrant)  # noqa: E731
    if reentrant:  # such a checkpoint gives gradients to `backward` only
        images.requires_grad_()
        run(images).square().sum().backward()
        first = [images.grad, *(p.grad for p in layer.parameters())]
        images.grad = None
        layer.zero_grad()
        layer(images).square().sum().backward()
        assert_alike(first, [images.grad, *(p.grad for p in layer.parameters())])  # type: ignore[arg-type,list-item]
    else:
        assert_alike(with_all_gradients(layer, images, run), with_all_gradients(layer, images))


@each_case
@pytest.mark.parametrize("second", [False, True])
def test_saved_tensors_are_unpacked_once(case: LayerCase, second: bool) -> None:
    layer, images = case.build(), case.images().requires_grad_()
    reads: dict[int, int] = {}

    def pack(tensor: Tensor) -> tuple[int, Tensor]:
        reads[len(reads)] = 0
        return len(reads) - 1, tensor.detach().clone() if not second else tensor

    def unpack(packed: tuple[int, Tensor]) -> Tensor:
        reads[packed[0]] += 1
        return packed[1]

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        output = layer(images)
    first = torch.autograd.grad(output.square().sum(), [images, *layer.parameters()], create_graph=second)
    assert reads
    assert max(reads.values()) == 1
    plain = torch.autograd.grad(layer(images).square().sum(), [images, *layer.parameters()])
    assert_alike([value.detach() for value in first], list(plain))


@each_case
def test_saving_on_the_cpu(case: LayerCase) -> None:
    layer, images = case.build(), case.images()

    def run(x: Tensor) -> Tensor:
        with torch.autograd.graph.save_on_cpu():
            return layer(x)  # type: ignore[no-any-return]

    assert_alike(with_all_gradients(layer, images, run), with_all_gradients(layer, images))


@pytest.mark.filterwarnings("ignore")
@each_case
def test_tracing_by_torch_jit_keeps_the_layer(case: LayerCase) -> None:
    layer, images, others = case.build(), case.images(), case.images()
    with torch.no_grad():
        traced = torch.jit.trace(layer, (images,), check_trace=False)
        torch.testing.assert_close(traced(others), layer(others), rtol=1e-3, atol=1e-4)


@each_case
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_default_device(case: LayerCase, device: str) -> None:
    layer, images = case.build(), case.images()
    with torch.device(device):
        results = with_all_gradients(layer, images, lambda x: layer(x).cpu()) if device == "cpu" else [layer(images)]
    assert all(result.device.type == "cpu" for result in results)


Replace = Callable[[DynamicConv2d, list[str]], Any]


def replaced(owner: str, method: str) -> Replace:
    """Replace a method on one module, as a wrapper that somebody sets does."""

    def replace(layer: DynamicConv2d, seen: list[str]) -> None:
        module = layer.get_submodule(owner)
        original = getattr(module, method)

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            seen.append(method)
            return original(*args, **kwargs)

        setattr(module, method, wrapper)

    return replace


def patched(owner: Any, method: str) -> Any:
    """Replace a method of a class."""

    def replace(layer: DynamicConv2d, seen: list[str]) -> Any:
        original = getattr(owner, method)

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            seen.append(method)
            return original(*args, **kwargs)

        setattr(owner, method, wrapper)
        return lambda: setattr(owner, method, original)

    return replace


def global_hook(register: Callable[..., Any]) -> Replace:
    def replace(layer: DynamicConv2d, seen: list[str]) -> Any:
        return register(
            lambda module, *_: seen.append("hook") if module is layer.attention_branch.excite else None
        ).remove

    return replace


def strategy(layer: DynamicConv2d, seen: list[str]) -> Any:
    original = aggregation._STRATEGIES["attention"]
    aggregation._STRATEGIES["attention"] = lambda attention, context: (seen.append("strategy"), attention)[1]
    return lambda: aggregation._STRATEGIES.__setitem__("attention", original)


module_hooks = torch.nn.modules.module
CHANGES: dict[str, Replace] = {
    "excite.forward": replaced("attention_branch.excite", "forward"),
    "squeeze.forward": replaced("attention_branch.squeeze", "forward"),
    "branch.forward": replaced("attention_branch", "forward"),
    "branch.logits": replaced("attention_branch", "logits"),
    "aggregator.forward": replaced("aggregator", "forward"),
    "layer.attention": replaced("", "attention"),
    "layer.mixture": replaced("", "mixture"),
    "nn.Linear.forward": patched(nn.Linear, "forward"),
    "DynamicConv2d.attention": patched(DynamicConv2d, "attention"),
    "the strategy": strategy,
    "global forward hook": global_hook(module_hooks.register_module_forward_hook),
    "global pre-hook": global_hook(module_hooks.register_module_forward_pre_hook),
}


@with_compiler
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
@pytest.mark.parametrize("training", [True, False])
def test_what_is_replaced_is_called(change: Replace, training: bool) -> None:
    layer = DynamicConv2d(16, 24, 3, padding=1, bias=False, temperature=1.0)
    for batch in (3, 1):
        images = torch.randn(batch, 16, 6, 6).contiguous(memory_format=torch.channels_last)
        seen: list[str] = []
        fresh = copy.deepcopy(layer)
        undo = change(fresh, seen)
        try:
            with torch.set_grad_enabled(training):
                result = fresh(images)
        finally:
            if undo is not None:
                undo()
        assert seen
        torch.testing.assert_close(result, layer(images), rtol=1e-4, atol=1e-5)


@with_compiler
def test_a_subclass_that_overrides_a_part_is_heard() -> None:
    class Even(DynamicConv2d):  # type: ignore[misc]
        def attention(self, input: Tensor) -> Tensor:
            return torch.full((input.shape[0], self.num_kernels), 1 / self.num_kernels)

    layer = Even(16, 24, 1, bias=False, temperature=0.01)
    images = torch.randn(3, 16, 6, 6).contiguous(memory_format=torch.channels_last)
    static = torch.nn.functional.conv2d(images, layer.weight.mean(0))
    torch.testing.assert_close(layer(images), static, rtol=1e-4, atol=1e-4)


@with_compiler
@each_case
def test_an_ordinary_call_is_still_compiled(case: LayerCase, monkeypatch: pytest.MonkeyPatch) -> None:
    if not case.name.startswith("dynamic-") or not case.name.endswith("channels_last") or "grouped" in case.name:
        pytest.skip("never done in one step")
    attended: list[int] = []
    attend = native.attend
    monkeypatch.setattr(native, "attend", lambda *args: (attended.append(1), attend(*args))[1])
    layer, images = case.build(), case.images()
    layer(images.requires_grad_()).sum().backward()
    assert attended


def test_a_network_under_a_counter_and_fakes() -> None:
    model = make_dynamic(nn.Sequential(nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3, groups=16), nn.Conv2d(16, 8, 1)))
    images = torch.randn(2, 3, 9, 9).contiguous(memory_format=torch.channels_last)
    with FlopCounterMode(display=False) as counter:
        model(images)
    assert counter.get_total_flops() >= 2 * 2 * (16 * 27 * 49 + 16 * 9 * 25 + 16 * 8 * 25)
    gc.collect()


@each_case
def test_double_precision_agrees(case: LayerCase) -> None:
    layer, images = case.build(), case.images()
    assert_alike(with_all_gradients(layer, images), in_double(layer, images))
