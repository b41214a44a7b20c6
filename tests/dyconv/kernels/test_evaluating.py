"""A layer in one call without gradient, against the definition in double precision, and who it must not pass by."""

import copy
import gc
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.func import functional_call, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.utils import parametrizations, prune
from torch.utils.flop_counter import FlopCounterMode

from dyconv import (
    CondConv2d,
    DynamicConv2d,
    DynamicLinear,
    PartlyDynamicConv2d,
    intervene,
    make_dynamic,
    record_attention,
    set_temperature,
)
from dyconv.attention import AttentionBranch
from dyconv.functional import dynamic_conv2d
from dyconv.kernels import evaluating, native
from dyconv.kernels.pooling import average_pool
from tests.dyconv.definition import by_image
from tests.dyconv.definition import compiled as with_compiler

pytestmark = with_compiler

POINTWISE = {"in_channels": 20, "out_channels": 36, "kernel_size": 1}
STRIDED = {"in_channels": 9, "out_channels": 37, "kernel_size": 1, "stride": 2}
DENSE = {"in_channels": 6, "out_channels": 10, "kernel_size": 3, "padding": 1}
GROUPED = {"in_channels": 8, "out_channels": 12, "kernel_size": 3, "padding": 1, "groups": 2}
DEPTHWISE = {"in_channels": 19, "out_channels": 19, "kernel_size": 3, "padding": 1, "groups": 19}
WIDE_STEPS = {
    "in_channels": 35,
    "out_channels": 35,
    "kernel_size": (5, 2),
    "padding": (2, 1),
    "stride": (2, 3),
    "dilation": (1, 2),
    "groups": 35,
}
KINDS = [POINTWISE, STRIDED, DENSE, GROUPED, DEPTHWISE, WIDE_STEPS]
FORMATS = [torch.contiguous_format, torch.channels_last]

each_kind = pytest.mark.parametrize("kind", KINDS, ids=["1x1", "1x1 strided", "3x3", "grouped", "depthwise", "wide"])
each_format = pytest.mark.parametrize("memory_format", FORMATS, ids=["nchw", "channels_last"])


def layer_of(kind: dict[str, Any], **more: Any) -> DynamicConv2d:
    return DynamicConv2d(**{"bias": False, "temperature": 0.5, **kind, **more}).eval()


def images_for(
    layer: Any, memory_format: torch.memory_format = torch.channels_last, batch: int = 1, size: tuple[int, int] = (9, 8)
) -> Tensor:
    return (torch.randn(batch, layer.in_channels, *size) + 0.3).contiguous(memory_format=memory_format)


def defined(layer: DynamicConv2d, images: Tensor) -> Tensor:
    """The definition: attention in double precision, one mixed kernel per image, and a convolution of torch with it."""
    double = copy.deepcopy(layer).double()
    with torch.no_grad():
        pooled = images.double().mean((2, 3))
        hidden = torch.relu(double.attention_branch.squeeze(pooled))
        attention = torch.softmax(double.attention_branch.excite(hidden) / double.temperature, 1)
        how = {name: getattr(layer, name) for name in ("stride", "padding", "dilation", "groups")}
        output = by_image(images, double.weight, attention, **how)
        if double.bias is not None:
            output = output + (attention @ double.bias)[:, :, None, None]
    return output.float()


def assert_close(output: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-4 * max(1.0, float(expected.abs().max())))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """One entry for each compiled call: whether it computed attention too."""
    made: list[bool] = []
    evaluate = native.evaluate
    monkeypatch.setattr(
        native, "evaluate", lambda layer, sizes, *rest: (made.append(sizes is not None), evaluate(layer, sizes, *rest))
    )
    return made


def is_in_one_call(kind: dict[str, Any], batch: int, memory_format: torch.memory_format) -> bool:
    """Whether a layer of `KINDS` is evaluated here, or left to `algorithms`."""
    if batch == 1:
        return True
    if memory_format is torch.channels_last:
        return batch <= evaluating._MOST_IMAGES and kind not in (DENSE, GROUPED)
    return kind in (POINTWISE, DEPTHWISE, WIDE_STEPS)


@each_kind
@each_format
@pytest.mark.parametrize(("batch", "num_kernels"), [(1, 4), (1, 3), (2, 1), (3, 2), (5, 8), (9, 4)])
def test_a_layer_is_the_definition(
    kind: dict[str, Any], memory_format: torch.memory_format, batch: int, num_kernels: int, calls: list[bool]
) -> None:
    layer = layer_of(kind, num_kernels=num_kernels)
    images = images_for(layer, memory_format, batch)
    with torch.inference_mode():
        output = layer(images)
    assert calls == [True] * is_in_one_call(kind, batch, memory_format)
    assert_close(output, defined(layer, images))
    assert output.is_contiguous(memory_format=memory_format)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_a_convolution_of_any_shape_is_the_definition(data: st.DataObject) -> None:
    def two(least: int, most: int) -> tuple[int, int]:
        return data.draw(st.tuples(st.integers(least, most), st.integers(least, most)))

    is_depthwise, is_last = data.draw(st.booleans()), data.draw(st.booleans())
    channels, out_channels = data.draw(st.integers(1, 70)), data.draw(st.integers(1, 70))
    kernel, stride, padding, dilation = (1, 1), two(1, 2), (0, 0), (1, 1)
    groups = 1
    if is_depthwise:
        kernel, stride, padding, dilation = two(1, 5), two(1, 3), two(0, 4), two(1, 2)
        out_channels = groups = channels
    least = [max(1, d * (k - 1) + 1 - 2 * p) for d, k, p in zip(dilation, kernel, padding, strict=True)]
    size = least[0] + data.draw(st.integers(0, 20)), least[1] + data.draw(st.integers(0, 20))
    batch, num_kernels = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 8))
    images = torch.randn(batch, channels, *size).contiguous(memory_format=FORMATS[is_last])
    weight = torch.randn(num_kernels, out_channels, channels // groups, *kernel)
    attention = torch.softmax(torch.randn(batch, num_kernels), 1)
    how = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    torch.set_num_threads(data.draw(st.sampled_from([1, 2])))
    try:
        with torch.no_grad():
            output = dynamic_conv2d(images, weight, attention, **how)
    finally:
        torch.set_num_threads(1)
    assert_close(output, by_image(images, weight, attention, **how).float())


@pytest.mark.parametrize("stride", [1, 2])
@each_format
def test_large_maps_are_done_in_parts(stride: int, memory_format: torch.memory_format, calls: list[bool]) -> None:
    layer = layer_of(DEPTHWISE, stride=stride, in_channels=3, out_channels=3, groups=3)
    images = images_for(layer, memory_format, size=(150, 301))
    with torch.no_grad():
        assert_close(layer(images), defined(layer, images))
    pointwise = layer_of(POINTWISE, in_channels=5, out_channels=40, stride=stride)
    images = images_for(pointwise, memory_format, batch=3, size=(150, 301))
    with torch.no_grad():
        assert_close(pointwise(images), defined(pointwise, images))
    assert calls[0]


@pytest.mark.parametrize(
    ("kind", "left_to_torch"),
    [
        ({"in_channels": 2049, "out_channels": 8, "kernel_size": 1}, FORMATS),
        ({"in_channels": 2, "out_channels": 2, "kernel_size": (1, 300), "padding": (0, 150), "groups": 2}, FORMATS[:1]),
        ({"in_channels": 2, "out_channels": 2, "kernel_size": 2, "dilation": (1, 17000), "groups": 2}, FORMATS[:1]),
        ({"in_channels": 2, "out_channels": 2, "kernel_size": (17, 1), "padding": (8, 0), "groups": 2}, FORMATS[1:]),
        ({"in_channels": 1400, "out_channels": 1400, "kernel_size": 5, "padding": 2, "groups": 1400}, FORMATS[1:]),
        ({"in_channels": 20, "out_channels": 7, "kernel_size": 1}, FORMATS[1:]),
    ],
    ids=["channels", "taps", "padded row", "kernel rows", "numbers", "few outputs"],
)
@each_format
def test_what_fits_no_buffer_is_convolved_by_torch(
    kind: dict[str, Any],
    left_to_torch: list[torch.memory_format],
    memory_format: torch.memory_format,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kinds: list[int] = []
    evaluate = native.evaluate
    monkeypatch.setattr(native, "evaluate", lambda layer, *rest: (kinds.append(layer.kind), evaluate(layer, *rest)))
    layer = layer_of(kind, num_kernels=2)
    images = images_for(layer, memory_format, size=(2, 17009 if "dilation" in kind else 5))
    with torch.no_grad():
        assert_close(layer(images), defined(layer, images))
    assert [kind == native.MIXED for kind in kinds] == [memory_format in left_to_torch]


@each_kind
@each_format
@pytest.mark.parametrize("batch", [1, 4])
def test_attention_apart_gives_the_same_bits(
    kind: dict[str, Any], memory_format: torch.memory_format, batch: int
) -> None:
    layer = layer_of(kind)
    images = images_for(layer, memory_format, batch)
    with torch.no_grad():
        together = layer(images)
        apart = layer.convolve(images, layer.mixture(images))
        with record_attention(layer) as recorder:
            recorded = layer(images)
    assert recorder is not None
    assert torch.equal(together, apart)
    assert torch.equal(together, recorded)


@each_kind
@each_format
def test_threads_and_other_images_change_no_bit(
    kind: dict[str, Any], memory_format: torch.memory_format, two_threads: None
) -> None:
    layer = layer_of(kind | {"in_channels": 64, "out_channels": 64, "groups": 64 if kind.get("groups", 1) > 1 else 1})
    images = images_for(layer, memory_format, batch=4, size=(41, 40))
    with torch.no_grad():
        one, batch = layer(images[:1]), layer(images)
        torch.set_num_threads(1)
        assert torch.equal(layer(images[:1]), one)
        assert torch.equal(layer(images), batch)
        if is_in_one_call(kind, 4, memory_format):
            for b in range(4):
                assert torch.equal(layer(images[b : b + 1]), batch[b : b + 1])


@pytest.mark.parametrize("kind", [POINTWISE, STRIDED, DEPTHWISE, WIDE_STEPS])
@each_format
def test_threads_share_out_the_pixels_of_few_channels(
    kind: dict[str, Any], memory_format: torch.memory_format, two_threads: None
) -> None:
    # Channels for one tile only, and pixels that are worth a thread each.
    channels = {"in_channels": 40, "out_channels": 8} if kind in (POINTWISE, STRIDED) else {}
    layer = layer_of(kind | channels)
    images = images_for(layer, memory_format, size=(61, 58))
    with torch.no_grad():
        shared_out = layer(images)
        torch.set_num_threads(1)
        assert torch.equal(layer(images), shared_out)
    assert_close(shared_out, defined(layer, images))


@pytest.mark.parametrize("kind", [POINTWISE, DEPTHWISE])
def test_few_images_and_many_give_the_same_bits(kind: dict[str, Any], calls: list[bool]) -> None:
    layer = layer_of(kind)
    images = images_for(layer, batch=evaluating._MOST_IMAGES + 1)
    with torch.no_grad():
        by_tiles = layer(images)
        assert not calls
        assert torch.equal(layer(images[:3]), by_tiles[:3])
    assert calls


@each_format
def test_values_that_are_not_numbers_stay_where_they_are(memory_format: torch.memory_format) -> None:
    for kind in (POINTWISE, DEPTHWISE):
        layer = layer_of(kind)
        images = images_for(layer, memory_format, batch=3)
        images[1, 2, 0, 0] = torch.nan
        with torch.no_grad():
            assert torch.equal(layer(images).isnan().flatten(1).all(1), torch.arange(3) == 1)


@each_format
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (40, 41), (150, 150)])
def test_averages_are_exact(memory_format: torch.memory_format, size: tuple[int, int]) -> None:
    images = (torch.randn(2, 19, *size) + 100).contiguous(memory_format=memory_format)
    with torch.no_grad():
        torch.testing.assert_close(average_pool(images), images.double().mean((2, 3)).float(), rtol=1e-5, atol=0)


# What may change between two calls. Each change gets a layer and may return another one.


def replace(layer: DynamicConv2d) -> None:
    layer.weight = nn.Parameter(torch.randn_like(layer.weight))
    layer.attention_branch.squeeze = nn.Linear(layer.in_channels, 7)
    layer.attention_branch.excite = nn.Linear(7, layer.num_kernels)


def set_data(layer: DynamicConv2d) -> None:
    for parameter in layer.parameters():
        parameter.data = torch.randn_like(parameter)


def load(layer: DynamicConv2d, assign: bool) -> None:
    state = {name: torch.rand_like(value) + 0.1 for name, value in layer.state_dict().items()}
    layer.load_state_dict(state, assign=assign)


def write_in_place(layer: DynamicConv2d) -> None:
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(1.5)


def write_temperature(layer: DynamicConv2d) -> None:
    layer.temperature.fill_(3.0)


def transpose_weight(layer: DynamicConv2d) -> None:
    """The same numbers at the same address with other strides."""
    squeeze = nn.Linear(layer.in_channels, layer.in_channels)
    layer.attention_branch.squeeze = squeeze
    layer.attention_branch.excite = nn.Linear(layer.in_channels, layer.num_kernels)
    with torch.no_grad():
        layer(images_for(layer))
    squeeze.weight.data = squeeze.weight.data.t()


def move(layer: DynamicConv2d) -> None:
    layer.double().bfloat16().float()


def share(layer: DynamicConv2d) -> None:
    other = layer_of(POINTWISE)
    layer.weight, layer.attention_branch = other.weight, other.attention_branch


CHANGES: dict[str, Callable[[DynamicConv2d], Any]] = {
    "replaced": replace,
    "data": set_data,
    "loaded": lambda layer: load(layer, assign=False),
    "assigned": lambda layer: load(layer, assign=True),
    "in place": write_in_place,
    "temperature buffer": write_temperature,
    "set_temperature": lambda layer: set_temperature(layer, 7.0),
    "moved": move,
    "shared": share,
    "copied": copy.deepcopy,
    "pickled": lambda layer: pickle.loads(pickle.dumps(layer)),
    "frozen": lambda layer: layer.requires_grad_(False),
    "channels_last": lambda layer: layer.to(memory_format=torch.channels_last),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("batch", [1, 3])
def test_what_changes_between_calls_is_read_anew(
    change: Callable[[DynamicConv2d], Any], batch: int, calls: list[bool]
) -> None:
    layer = layer_of(POINTWISE)
    images = images_for(layer, batch=batch)
    with torch.no_grad():
        layer(images)
    changed = change(layer)
    layer = changed if isinstance(changed, DynamicConv2d) else layer
    calls.clear()
    with torch.no_grad():
        assert_close(layer(images), defined(layer, images))
    assert calls == [True]


def test_strides_that_change_at_the_same_address_are_seen(calls: list[bool]) -> None:
    layer = layer_of(POINTWISE)
    transpose_weight(layer)
    calls.clear()
    images = images_for(layer)
    with torch.no_grad():
        assert_close(layer(images), defined(layer, images))
    assert calls == [False], "attention was torch's business, mixing and convolution were not"


def test_a_functional_call_uses_its_own_tensors(calls: list[bool]) -> None:
    layer = layer_of(POINTWISE)
    images = images_for(layer)
    other = layer_of(POINTWISE, temperature=2.0)
    with torch.no_grad():
        before = layer(images)
        state = {name: value.detach() for name, value in other.state_dict().items()}
        assert_close(functional_call(layer, state, (images,)), defined(other, images))
        assert torch.equal(layer(images), before)
    assert calls == [True] * 3


def test_nothing_keeps_a_layer_alive() -> None:
    layer = layer_of(POINTWISE)
    with torch.no_grad():
        layer(images_for(layer))
    references = [weakref.ref(layer), weakref.ref(layer.weight)]
    del layer
    gc.collect()
    assert [reference() for reference in references] == [None, None]


def test_images_of_other_layouts_are_convolved_as_well(calls: list[bool]) -> None:
    layer = layer_of(POINTWISE)
    images = torch.randn(1, 9, layer.in_channels, 8).transpose(1, 2)
    expanded = torch.randn(1, layer.in_channels, 9, 8).expand(3, -1, -1, -1)
    with torch.no_grad():
        for odd in (images, expanded, images_for(layer, size=(9, 16))[..., ::2]):
            assert_close(layer(odd), defined(layer, odd))
        assert not calls
        # A view in the middle of a tensor is contiguous, and is read where it begins.
        middle = images_for(layer, batch=3)[1:2]
        assert_close(layer(middle), defined(layer, middle))
        one = images_for(layer)
        assert torch.equal(layer(one[0]), layer(one)[0])
    assert calls == [True] * 3


def test_nothing_to_average_is_left_to_torch(calls: list[bool]) -> None:
    layer = layer_of(DEPTHWISE, padding=2)
    with torch.no_grad():
        with pytest.raises(RuntimeError, match="zero"):
            layer(images_for(layer, size=(0, 3)))
        assert layer(images_for(layer, batch=0)).shape == (0, 19, 11, 10)
    assert not calls


def test_another_default_dtype_changes_nothing(calls: list[bool]) -> None:
    layer = layer_of(POINTWISE)
    images = images_for(layer)
    expected = defined(layer, images)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad():
            output = layer(images)
    finally:
        torch.set_default_dtype(torch.float32)
    assert_close(output, expected)
    assert output.dtype is torch.float32
    assert calls


# Who must not be passed by. Each case gets a layer and an image, calls the layer without gradient, and returns what it
# computed, to be compared with the definition of the layer that it returns.


def prune_squeeze(layer: DynamicConv2d) -> None:
    prune.l1_unstructured(layer.attention_branch.squeeze, "weight", 0.5)


OUTSIDERS: dict[str, Callable[[DynamicConv2d], Any]] = {
    "hook on the aggregator": lambda layer: layer.aggregator.register_forward_hook(lambda *_: None),
    "hook before the branch": lambda layer: layer.attention_branch.register_forward_pre_hook(lambda *_: None),
    "hook on squeeze": lambda layer: layer.attention_branch.squeeze.register_forward_hook(lambda *_: None),
    "hook on excite": lambda layer: layer.attention_branch.excite.register_forward_hook(lambda *_: None),
    "weight norm": lambda layer: parametrizations.weight_norm(layer.attention_branch.squeeze),
    "pruning": prune_squeeze,
    "forward on the branch": lambda layer: setattr(
        layer.attention_branch, "forward", lambda x, t: AttentionBranch.forward(layer.attention_branch, x, t)
    ),
    "attention on the layer": lambda layer: setattr(layer, "attention", lambda x: type(layer).attention(layer, x)),
}


@pytest.mark.parametrize("outsider", OUTSIDERS.values(), ids=OUTSIDERS)
@each_format
def test_who_watches_a_part_is_not_passed_by(
    outsider: Callable[[DynamicConv2d], Any], memory_format: torch.memory_format, calls: list[bool]
) -> None:
    layer = layer_of(POINTWISE)
    images = images_for(layer, memory_format)
    with torch.no_grad():
        handle = outsider(layer)
    reference = defined(layer, images) if not isinstance(handle, nn.Module) else None
    calls.clear()
    with torch.no_grad():
        output = layer(images)
    assert True not in calls
    if reference is not None:
        assert_close(output, reference)


@each_format
def test_other_attention_is_not_passed_by(memory_format: torch.memory_format, calls: list[bool]) -> None:
    layer = layer_of(POINTWISE)
    images = images_for(layer, memory_format, batch=3)
    with torch.no_grad():
        for others in ({"aggregation": "average"}, {"normalization": "sigmoid", "temperature": 30.0}):
            layer_of(POINTWISE, **others)(images)
        with intervene(layer, aggregation="max"):
            one_kernel = layer(images)
        with record_attention(layer) as recorder:
            layer(images)
        assert recorder is not None
        attention = layer.attention(images)
        assert True not in calls
        chosen = torch.zeros_like(attention).scatter(1, attention.argmax(1, keepdim=True), 1.0)
        assert_close(one_kernel, by_image(images, layer.weight, chosen).float())
        layer(images)
    assert True in calls


def test_global_hooks_see_every_module(calls: list[bool]) -> None:
    layer, seen = layer_of(POINTWISE), []
    handle = nn.modules.module.register_module_forward_hook(lambda module, *_: seen.append(type(module).__name__))
    try:
        with torch.no_grad():
            layer(images_for(layer))
    finally:
        handle.remove()
    assert True not in calls
    assert seen == ["Linear", "Linear", "AttentionBranch", "Aggregator", "DynamicConv2d"]


def test_gradients_dtypes_and_paddings_are_others_business(calls: list[bool]) -> None:
    layer = layer_of(POINTWISE)
    image = images_for(layer)
    layer(image)
    with torch.no_grad():
        layer_of(POINTWISE).double()(image.double())
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(image).dtype is torch.bfloat16
    assert not calls
    with torch.no_grad():
        reflecting = layer_of(DENSE, padding_mode="reflect")
        reflecting(images_for(reflecting))
        same = layer_of(DENSE, padding="same")
        same(images_for(same))
    assert calls == [False, False], "attention is torch's there, mixing is not"


class Named(Tensor):
    """A subclass that only carries a name, through `__torch_function__`."""


SURROUNDINGS: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "subclass": lambda layer, images: layer(images.as_subclass(Named)).as_subclass(Tensor),  # type: ignore[arg-type]
    "vmap": lambda layer, images: vmap(lambda image: layer(image[None])[0])(images),
    "make_fx": lambda layer, images: make_fx(layer)(images)(images),
    "jit": lambda layer, images: torch.jit.trace(layer, images, check_trace=False)(images),
}


@pytest.mark.parametrize("surroundings", SURROUNDINGS.values(), ids=SURROUNDINGS)
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.*torch.jit")
@each_format
def test_surroundings_that_see_operations_see_them(
    surroundings: Callable[[nn.Module, Tensor], Tensor], memory_format: torch.memory_format, calls: list[bool]
) -> None:
    layer = layer_of(POINTWISE)
    images = images_for(layer, memory_format)
    with torch.no_grad():
        output = surroundings(layer, images)
    assert not calls
    assert_close(output, defined(layer, images))


def test_fakes_and_counters(calls: list[bool]) -> None:
    layer = layer_of(POINTWISE)
    images = images_for(layer)
    with torch.no_grad():
        with FlopCounterMode(display=False) as counter:
            layer(images)
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            assert layer(mode.from_tensor(images)).shape == (1, 36, 9, 8)
    assert counter.get_total_flops() >= 2 * 20 * 36 * 72
    assert not calls


def test_a_subclass_that_overrides_a_part_is_heard(calls: list[bool]) -> None:
    class Even(DynamicConv2d):  # type: ignore[misc]
        def attention(self, input: Tensor) -> Tensor:
            return torch.full((input.shape[0], self.num_kernels), 1 / self.num_kernels)

    layer = Even(20, 36, 1, bias=False)
    image = images_for(layer)
    with torch.no_grad():
        assert_close(layer(image), torch.nn.functional.conv2d(image, layer.weight.mean(0)))
    assert calls == [False]


def test_a_patched_class_is_heard(calls: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    layer = layer_of(POINTWISE)
    monkeypatch.setattr(AttentionBranch, "logits", lambda self, input: input.new_zeros(len(input), 4))
    image = images_for(layer)
    with torch.no_grad():
        assert_close(layer(image), torch.nn.functional.conv2d(image, layer.weight.mean(0)))
    assert True not in calls


@pytest.mark.parametrize(
    ("squeeze", "excite"),
    [((20, 5), (5, 9)), ((20, 5), (7, 4)), ((9, 5), (5, 4))],
    ids=["kernels", "hidden", "channels"],
)
def test_a_branch_that_does_not_fit_is_an_error(squeeze: tuple[int, int], excite: tuple[int, int]) -> None:
    layer = layer_of(POINTWISE)
    layer.attention_branch.squeeze, layer.attention_branch.excite = nn.Linear(*squeeze), nn.Linear(*excite)
    with torch.no_grad(), pytest.raises((RuntimeError, ValueError)):
        layer(images_for(layer))


@pytest.mark.parametrize(
    "layer",
    [
        CondConv2d(16, 24, 1, num_kernels=3),
        PartlyDynamicConv2d(16, 24, 1, bias=False, num_kernels=3),
        DynamicConv2d(16, 24, 1, num_kernels=3),
    ],
    ids=lambda layer: type(layer).__name__,
)
@each_format
def test_other_kinds_gain_from_it(layer: nn.Module, memory_format: torch.memory_format, calls: list[bool]) -> None:
    images = images_for(layer, memory_format)
    with torch.no_grad():
        output = layer(images)
        assert_close(output, copy.deepcopy(layer).double()(images.double()).float())
    assert calls


def test_a_linear_layer_gains_from_it(calls: list[bool]) -> None:
    layer, rows = DynamicLinear(16, 24, num_kernels=3), torch.randn(1, 5, 16)
    with torch.no_grad():
        assert_close(layer(rows), copy.deepcopy(layer).double()(rows.double()).float())
    assert calls == [False]


def test_a_network_is_evaluated_layer_by_layer(calls: list[bool]) -> None:
    blocks = [nn.Conv2d(16, 16, 3, groups=16, bias=False), nn.ReLU(), nn.Conv2d(16, 8, 1, bias=False)]
    model = make_dynamic(nn.Sequential(nn.Conv2d(3, 16, 3, bias=False), *blocks)).eval()
    with torch.no_grad():
        output = model(torch.ones(1, 3, 9, 9))
        assert calls == [True, True]
        assert_close(output, copy.deepcopy(model).double()(torch.ones(1, 3, 9, 9).double()).float())
