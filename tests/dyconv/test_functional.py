"""`dynamic_conv2d` against its definition, and the properties that must hold whatever the algorithm."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dyconv import ArgumentError, DyconvError, ShapeError, dynamic_conv2d
from dyconv.kernels.algorithms import available_algorithms

SETTINGS: list[dict[str, Any]] = [
    {},
    {"stride": 2},
    {"stride": (2, 1)},
    {"stride": (1, 2), "padding": (2, 0)},
    {"padding": 1, "dilation": 2},
    {"padding": "same"},
    {"padding": "same", "dilation": (2, 1)},
    {"padding": "valid", "stride": 2},
    {"groups": 2, "padding": 1},
    {"groups": 6, "padding": 1, "stride": 2},
    {"groups": 3, "dilation": 2, "padding": 2},
]
KERNELS = [(1, 1), (3, 3), (2, 3)]


def make(
    shape: tuple[int, int, int, int] = (3, 6, 7, 5),
    out_channels: int = 6,
    kernel: tuple[int, int] = (3, 3),
    groups: int = 1,
    num_kernels: int = 4,
    dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Input, weight, attention and bias; attention is not normalised, so that nothing can rely on its sum."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=g, dtype=dtype)
    weight = torch.randn(num_kernels, out_channels, shape[1] // groups, *kernel, generator=g, dtype=dtype)
    attention = torch.rand(shape[0], num_kernels, generator=g, dtype=dtype)
    bias = torch.randn(num_kernels, out_channels, generator=g, dtype=dtype)
    return x, weight, attention, bias


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("setting", SETTINGS, ids=str)
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_forward_and_gradient_equal_the_per_image_loop(
    oracle: Any, kernel: tuple[int, int], setting: dict[str, Any], channels_last: bool
) -> None:
    tensors = make(kernel=kernel, groups=setting.get("groups", 1))
    format_ = torch.channels_last if channels_last else torch.contiguous_format
    leaves = [t.detach().requires_grad_() for t in tensors]
    ours = dynamic_conv2d(leaves[0].contiguous(memory_format=format_), *leaves[1:], **setting)
    expected_leaves = [t.detach().requires_grad_() for t in tensors]
    expected = oracle(*expected_leaves, **setting)
    torch.testing.assert_close(ours, expected)
    gradient = torch.randn_like(expected)
    for got, want in zip(
        torch.autograd.grad(ours, leaves, gradient),
        torch.autograd.grad(expected, expected_leaves, gradient),
        strict=True,
    ):
        torch.testing.assert_close(got, want)


def applies(name: str, run: Callable[[], Tensor]) -> bool:
    """Whether the algorithm called `name` computes this shape; refusing is right only in the words of its own error."""
    try:
        run()
    except ArgumentError as error:
        if f"algorithm {name!r} cannot compute" in str(error):
            return False
        raise
    return True


@settings(max_examples=60, deadline=None)
@given(
    batch=st.integers(0, 4),
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    groups=st.sampled_from([1, 2, 4]),
    num_kernels=st.integers(1, 3),
)
def test_every_algorithm_agrees_with_a_mixture_of_convolutions(groups: int, **kw: Any) -> None:
    setting = {name: kw[name] for name in ("stride", "padding", "dilation")}
    x, weight, attention, bias = make((kw["batch"], 4, *kw["size"]), 4, kw["kernel"], groups, kw["num_kernels"])
    try:
        results = [F.conv2d(x, w, b, groups=groups, **setting) for w, b in zip(weight, bias, strict=True)]
    except RuntimeError:
        with pytest.raises(ShapeError):
            dynamic_conv2d(x, weight, attention, bias, groups=groups, **setting)
        return
    expected = sum(attention[:, k, None, None, None] * y for k, y in enumerate(results))
    for name in (None, *available_algorithms()):
        for format_ in (torch.channels_last, torch.contiguous_format):
            image = x.contiguous(memory_format=format_)
            run = partial(dynamic_conv2d, image, weight, attention, bias, groups=groups, **setting, algorithm=name)
            if name is not None and not applies(name, run):
                continue
            y = run()
            torch.testing.assert_close(y, expected, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize(
    ("out_channels", "kernel", "setting"),
    [
        (3, (1, 1), {}),
        (2, (1, 1), {"stride": 2}),
        (3, (3, 2), {"padding": 1}),
        (4, (3, 3), {"padding": 1, "groups": 4, "stride": 2}),
        (4, (3, 3), {"padding": 2, "groups": 2, "dilation": 2}),
    ],
    ids=str,
)
def test_gradcheck_of_every_algorithm(out_channels: int, kernel: tuple[int, int], setting: dict[str, Any]) -> None:
    shape = (2, 4, 3, 2)
    leaves = [t.requires_grad_() for t in make(shape, out_channels, kernel, setting.get("groups", 1), 2)]
    forced = 0
    for name in (None, *available_algorithms()):

        def run(*tensors: Tensor, algorithm: str | None = name) -> Tensor:
            return dynamic_conv2d(*tensors, **setting, algorithm=algorithm)

        try:
            run(*leaves)
        except ArgumentError:
            continue
        forced += 1
        assert torch.autograd.gradcheck(run, leaves)
    assert forced >= 4


def test_second_derivatives_of_the_tap_by_tap_algorithm() -> None:
    leaves = [t.requires_grad_() for t in make((2, 2, 2, 2), 2, (3, 3), 2, 2)]

    def run(*tensors: Tensor) -> Tensor:
        return dynamic_conv2d(*tensors, padding=1, groups=2, algorithm="taps")

    assert torch.autograd.gradgradcheck(run, leaves, fast_mode=True)


def test_one_kernel_equals_conv2d() -> None:
    x, weight, _, bias = make(num_kernels=1)
    ones = torch.ones(x.shape[0], 1, dtype=x.dtype)
    y = dynamic_conv2d(x, weight, ones, bias, padding=1, stride=2)
    torch.testing.assert_close(y, F.conv2d(x, weight[0], bias[0], padding=1, stride=2), rtol=0, atol=1e-13)


@pytest.mark.parametrize("kernel", KERNELS)
def test_identical_kernels_make_attention_irrelevant(kernel: tuple[int, int]) -> None:
    x, weight, attention, bias = make(kernel=kernel)
    same, bias = weight[:1].expand_as(weight), bias[:1].expand_as(bias)
    normalised = attention / attention.sum(1, keepdim=True)
    torch.testing.assert_close(dynamic_conv2d(x, same, normalised, bias), F.conv2d(x, weight[0], bias[0]))


@given(order=st.permutations(range(4)))
@settings(deadline=None)
def test_permuting_kernels_and_attention_together_changes_nothing(order: list[int]) -> None:
    x, weight, attention, bias = make()
    expected = dynamic_conv2d(x, weight, attention, bias)
    torch.testing.assert_close(dynamic_conv2d(x, weight[order], attention[:, order], bias[order]), expected)


@pytest.mark.parametrize(("groups", "kernel"), [(1, (1, 1)), (1, (3, 3)), (6, (3, 3))])
@pytest.mark.parametrize("size", [1, 2, 9])
def test_a_result_does_not_depend_on_the_rest_of_the_batch(groups: int, kernel: tuple[int, int], size: int) -> None:
    x, weight, attention, bias = make((5, 6, size, size), kernel=kernel, groups=groups, dtype=torch.float32)
    padding = kernel[0] // 2
    whole = dynamic_conv2d(x, weight, attention, bias, padding=padding, groups=groups)
    for part in (slice(0, 1), slice(2, 5)):
        alone = dynamic_conv2d(x[part], weight, attention[part], bias, padding=padding, groups=groups)
        torch.testing.assert_close(alone, whole[part], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("groups", "kernel"), [(1, (1, 1)), (1, (3, 3)), (6, (3, 3))])
@pytest.mark.parametrize("size", [2, 6, 12])
@pytest.mark.parametrize("stride", [1, 2])
def test_memory_format_of_result_and_gradient(groups: int, kernel: tuple[int, int], size: int, stride: int) -> None:
    tensors = make((3, 6, size, size), kernel=kernel, groups=groups, dtype=torch.float32)
    for format_ in (torch.channels_last, torch.contiguous_format):
        image = tensors[0].contiguous(memory_format=format_).requires_grad_()
        y = dynamic_conv2d(image, *tensors[1:], stride=stride, padding=kernel[0] // 2, groups=groups)
        assert y.is_contiguous(memory_format=format_)
        (gradient,) = torch.autograd.grad(y.square().sum(), image)
        assert gradient.is_contiguous(memory_format=format_)


def test_input_of_no_memory_format_is_accepted(oracle: Any) -> None:
    x, weight, attention, _ = make((3, 6, 14, 5))
    strided = x[:, :, ::2].transpose(0, 0)
    torch.testing.assert_close(dynamic_conv2d(strided, weight, attention), oracle(strided, weight, attention))


@pytest.mark.parametrize("name", available_algorithms())
@pytest.mark.parametrize(("groups", "kernel"), [(1, (1, 1)), (6, (3, 3))])
def test_half_precision_is_close(name: str, groups: int, kernel: tuple[int, int]) -> None:
    x, weight, attention, bias = make(kernel=kernel, groups=groups, dtype=torch.float32)
    setting: dict[str, Any] = {"groups": groups, "padding": kernel[0] // 2, "algorithm": name}
    try:
        expected = dynamic_conv2d(x, weight, attention, bias, **setting)
    except ArgumentError:
        pytest.skip("this algorithm does not compute this shape")
    low = dynamic_conv2d(x.bfloat16(), weight.bfloat16(), attention, bias.bfloat16(), **setting)
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), expected, rtol=0.05, atol=0.2)


def test_half_precision_taps_are_summed_in_float32() -> None:
    x, weight, attention, _ = make((2, 6, 8, 8), groups=6, dtype=torch.bfloat16)
    settings: dict[str, Any] = {"groups": 6, "padding": 1, "algorithm": "taps"}
    low = dynamic_conv2d(x, weight, attention, **settings)
    kernels = torch.einsum("bk,koihw->boihw", attention, weight).flatten(0, 1)  # rounded as the algorithm rounds it
    exact = F.conv2d(x.float().reshape(1, 12, 8, 8), kernels.float(), padding=1, groups=12).reshape(2, 6, 8, 8)
    assert (low == exact.bfloat16()).float().mean() > 0.99


def test_autocast_computes_in_its_dtype_and_keeps_gradients_in_theirs() -> None:
    leaves = [t.requires_grad_() for t in make(dtype=torch.float32)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = dynamic_conv2d(*leaves)
    assert y.dtype == torch.bfloat16
    gradients = torch.autograd.grad(y.float().sum(), leaves)
    assert all(g.dtype == torch.float32 for g in gradients)
    torch.testing.assert_close(y.float(), dynamic_conv2d(*leaves), rtol=0.05, atol=0.3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input": torch.zeros(6, 7, 5)}, "must be"),
        ({"weight": torch.zeros(6, 6, 3, 3)}, "must be"),
        ({"attention": torch.zeros(3, 5)}, r"\(3, 4\)"),
        ({"attention": torch.zeros(2, 4)}, r"\(3, 4\)"),
        ({"bias": torch.zeros(6)}, "one row per kernel"),
        ({"groups": 2}, "groups=2"),
        ({"groups": 0}, "groups=0"),
        ({"stride": 0}, "stride"),
        ({"stride": (1, 2, 3)}, "stride"),
        ({"padding": -1}, "padding"),
        ({"padding": "full"}, "'same', 'valid'"),
        ({"padding": "same", "stride": 2}, "stride 1"),
        ({"dilation": 1.5}, "dilation"),
        ({"dilation": 9}, "does not fit"),
        ({"algorithm": "grupped"}, "grouped"),
        ({"algorithm": "taps"}, "cannot compute"),
    ],
    ids=str,
)
def test_bad_arguments_are_errors_that_say_so(change: dict[str, Any], message: str) -> None:
    x, weight, attention, bias = make(dtype=torch.float32)
    arguments = {"input": x, "weight": weight, "attention": attention, "bias": bias} | change
    with pytest.raises(DyconvError, match=message):
        dynamic_conv2d(**arguments)


def test_attention_that_all_images_share_costs_one_convolution() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    input, weight = (
        torch.randn(4, 6, 5, 5).double().requires_grad_(),
        torch.randn(3, 8, 6, 3, 3).double().requires_grad_(),
    )
    bias = torch.randn(3, 8).double().requires_grad_()
    row = torch.rand(1, 3).double().requires_grad_()
    with FlopCounterMode(display=False) as shared:
        output = dynamic_conv2d(input, weight, row.expand(4, 3), bias, padding=1)
    with FlopCounterMode(display=False) as static:
        F.conv2d(input, weight[0], padding=1)
    mixing = 2 * 3 * (weight[0].numel() + 8)
    assert shared.get_total_flops() == static.get_total_flops() + mixing
    expected = dynamic_conv2d(input, weight, row.expand(4, 3).contiguous(), bias, padding=1)
    torch.testing.assert_close(output, expected)
    for a, b in zip(
        *(torch.autograd.grad(y.square().sum(), (input, weight, row, bias)) for y in (output, expected)), strict=True
    ):
        torch.testing.assert_close(a, b)
