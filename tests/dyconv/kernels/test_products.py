"""Products of patches with mixed kernels: chunks change nothing, no kernel is kept, and what needs another path."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dyconv.functional import dynamic_conv2d
from dyconv.kernels import products

Tensors = tuple[Tensor, Tensor, Tensor]


def make(batch: int = 5, dtype: torch.dtype = torch.float64, kernel: int = 3) -> Tensors:
    """Images (B, 4, 6, 7), kernels (3, 6, 4, k, k) and attention (B, 3) that want gradients."""
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(batch, 4, 6, 7, generator=draw, dtype=dtype).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(3, 6, 4, kernel, kernel, generator=draw, dtype=dtype)
    attention = torch.softmax(torch.randn(batch, 3, generator=draw, dtype=dtype), 1)
    return images.requires_grad_(), weight.requires_grad_(), attention.requires_grad_()


def by_image(images: Tensor, weight: Tensor, attention: Tensor, **how: int) -> Tensor:
    """The definition: each image with its own kernel."""
    kernels = torch.einsum("bk,k...->b...", attention, weight)
    return torch.cat([F.conv2d(images[b : b + 1], kernels[b], **how) for b in range(len(images))])


HOWS = [
    {"stride": 1, "padding": 1},
    {"stride": 2, "padding": 1},
    {"stride": 1, "padding": 3},
    {"stride": 1, "padding": 2, "dilation": 2},
    {"stride": 2, "padding": 0, "dilation": 2},
]


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("cut", [True, False])
@pytest.mark.parametrize(("images", "rows"), [(1, 100), (2, 100), (3, 5), (5, 1)])
def test_pieces_change_nothing(
    how: dict[str, int], images: int, rows: int, cut: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plan(work: products._Work, wanted: bool) -> products._Plan:
        length = work.line if cut and wanted else work.patch
        return products._Plan(cut and wanted, images, min(rows, length) if wanted else length, work.columns)

    monkeypatch.setattr(products, "_cut", plan)
    tensors = make()
    ours, expected = dynamic_conv2d(*tensors, algorithm="product", **how), by_image(*tensors, **how)
    torch.testing.assert_close(ours, expected)
    seed = torch.randn_like(expected)
    for a, b in zip(*(torch.autograd.grad(y, tensors, seed) for y in (ours, expected)), strict=True):
        torch.testing.assert_close(a, b)


def test_how_much_is_taken_at_a_time() -> None:
    def pieces(patch: int, columns: int, pixels: int, *, cut: bool = True, element_size: int = 4) -> tuple[int, int]:
        most = products._PATCH_BYTES // (pixels * (patch // 3 if cut else patch) * element_size)
        work = products._Work(64, most, patch, patch // 3, columns, element_size)
        return products._cut(work, cut)[1:3]

    assert pieces(576, 64, 1024) == (2, 192), "lines of 0.8 MB an image, kernels of 0.1"
    assert pieces(4608, 512, 16) == (16, 64), "kernels of 9.4 MB"
    assert pieces(4608, 512, 16, cut=False) == (7, 4608), "not cut, 64 MB of them"
    assert pieces(4608, 512, 16, cut=False, element_size=2) == (13, 4608), "in half precision twice as many"
    assert pieces(30, 10, 4) == (64, 10)
    assert pieces(3 * 10**5, 10**5, 10**5)[0] == 1


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 2), (1, 2)])
def test_gradients_of_a_part(how: dict[str, int], wanted: tuple[int, ...]) -> None:
    tensors = make()
    for index in {0, 1, 2} - set(wanted):
        tensors[index].requires_grad_(False)
    asked = [tensors[index] for index in wanted]
    ours = torch.autograd.grad(dynamic_conv2d(*tensors, algorithm="product", **how).square().sum(), asked)
    expected = torch.autograd.grad(by_image(*tensors, **how).square().sum(), asked)
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_a_second_derivative_is_that_of_the_definition() -> None:
    def penalty(convolve: object) -> tuple[Tensor, ...]:
        tensors = make()
        output = convolve(*tensors).square().sum()  # type: ignore[operator]
        first = torch.autograd.grad(output, tensors, create_graph=True)
        return torch.autograd.grad(sum((g.square().sum() for g in first), torch.zeros(())), tensors)

    ours = penalty(lambda *tensors: dynamic_conv2d(*tensors, padding=1, algorithm="product"))
    for a, b in zip(ours, penalty(lambda *tensors: by_image(*tensors, padding=1)), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("kernel", [1, 3])
def test_no_kernel_of_an_image_is_kept_for_the_backward_pass(kernel: int) -> None:
    images, weight, attention = make(batch=64, kernel=kernel)
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        output = dynamic_conv2d(images, weight, attention, padding=kernel // 2, algorithm="product")
    shared = sum(tensor.untyped_storage().nbytes() for tensor in (images, weight, attention))
    assert sum(kept.values()) <= shared + weight.untyped_storage().nbytes(), "the inputs, and the kernels re-ordered"
    assert output.requires_grad


def test_the_gradient_of_channels_last_images_is_channels_last() -> None:
    images, weight, attention = make()
    (grad,) = torch.autograd.grad(
        dynamic_conv2d(images, weight, attention, padding=1, algorithm="product").sum(), images
    )
    assert grad.is_contiguous(memory_format=torch.channels_last)
    plain = images.detach().contiguous().requires_grad_()
    (grad,) = torch.autograd.grad(dynamic_conv2d(plain, weight, attention, padding=1, algorithm="product").sum(), plain)
    assert grad.is_contiguous()


def test_sums_over_chunks_are_exact_in_half_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_cut", lambda work, cut: products._Plan(False, 1, work.patch, work.columns))
    images, weight, attention = make(batch=200)
    low = [tensor.detach().bfloat16().requires_grad_() for tensor in (images, weight, attention)]
    exact = [tensor.detach().double().requires_grad_() for tensor in low]
    grads = [
        torch.autograd.grad(dynamic_conv2d(*tensors, padding=1, algorithm="product").sum(), tensors[1])[0].double()
        for tensors in (low, exact)
    ]
    error = (grads[0] - grads[1]).norm() / grads[1].norm()
    assert error < 0.01


def test_a_backward_pass_under_autocast_computes_as_the_forward_pass_did() -> None:
    tensors = tuple(tensor.detach().float().requires_grad_() for tensor in make())
    output = dynamic_conv2d(*tensors, padding=1, algorithm="product")
    expected = torch.autograd.grad(output.sum(), tensors, retain_graph=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = torch.autograd.grad(output.sum(), tensors)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b)
