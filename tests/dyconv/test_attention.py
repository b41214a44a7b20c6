"""The attention branch against a computation by hand."""

import pytest
import torch
from torch import Tensor

from dyconv import ArgumentError, AttentionBranch, DynamicConv2d
from dyconv.kernels.pooling import with_average


def test_by_hand() -> None:
    branch = AttentionBranch(2, 2, reduction=2)
    with torch.no_grad():
        branch.squeeze.weight.copy_(torch.tensor([[1.0, -1.0]]))
        branch.squeeze.bias.fill_(0.5)
        branch.excite.weight.copy_(torch.tensor([[2.0], [0.0]]))
        branch.excite.bias.zero_()
    x = torch.tensor([[[[1.0, 3.0]], [[0.0, 1.0]]], [[[0.0, 0.0]], [[4.0, 4.0]]]])  # means (2, 0.5) and (0, 4)
    attention = branch(x, torch.tensor(2.0))
    first = torch.softmax(torch.tensor([4.0 / 2.0, 0.0]), 0)  # hidden 2 - 0.5 + 0.5 = 2
    torch.testing.assert_close(attention, torch.stack([first, torch.tensor([0.5, 0.5])]))  # hidden -3.5, cut to 0


def test_shape_sum_and_flatness() -> None:
    branch, x = AttentionBranch(16, 5), 3 * torch.randn(7, 16, 4, 4)
    sharp, flat = branch(x, torch.tensor(1.0)), branch(x, torch.tensor(30.0))
    assert sharp.shape == (7, 5)
    torch.testing.assert_close(flat.sum(1), torch.ones(7))
    assert (flat - 0.2).abs().max() < (sharp - 0.2).abs().max()


def test_memory_format_is_of_no_consequence() -> None:
    branch, x = AttentionBranch(8, 3), torch.randn(2, 8, 5, 6)
    one = torch.tensor(1.0)
    torch.testing.assert_close(branch(x.contiguous(memory_format=torch.channels_last), one), branch(x, one))


@pytest.mark.parametrize(("channels", "reduction", "hidden"), [(16, 4, 4), (3, 4, 1), (10, 4, 2), (8, 1, 8)])
def test_hidden_width(channels: int, reduction: int, hidden: int) -> None:
    assert AttentionBranch(channels, 4, reduction).squeeze.out_features == hidden


def test_softmax_is_computed_in_float32() -> None:
    branch, x = AttentionBranch(8, 3), torch.randn(2, 8, 5, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert branch(x, torch.tensor(1.0)).dtype == torch.float32
    assert branch.bfloat16()(x.bfloat16(), torch.tensor(1.0)).dtype == torch.float32
    assert branch.double()(x.double(), torch.tensor(1.0)).dtype == torch.float64


@pytest.mark.parametrize("bad", [{"in_channels": 0}, {"num_kernels": 0}, {"reduction": 0}], ids=str)
def test_bad_sizes_are_errors(bad: dict[str, int]) -> None:
    with pytest.raises(ArgumentError, match=next(iter(bad))):
        AttentionBranch(**({"in_channels": 8, "num_kernels": 4} | bad))


@pytest.mark.parametrize("last", [True, False])
def test_with_average_gives_the_gradients_of_two_separate_uses(last: bool) -> None:
    memory_format = torch.channels_last if last else torch.contiguous_format
    x = torch.randn(3, 4, 5, 6, dtype=torch.float64).contiguous(memory_format=memory_format).requires_grad_()

    def loss(image: Tensor, average: Tensor) -> Tensor:
        return (image.square() * average.sigmoid()[:, :, None, None]).sum()

    ours, expected = loss(*with_average(x)), loss(x, x.mean((2, 3)))
    torch.testing.assert_close(ours, expected)
    (found,), (wanted,) = torch.autograd.grad(ours, x), torch.autograd.grad(expected, x)
    torch.testing.assert_close(found, wanted)
    for use in (lambda i, a: i.square().sum(), lambda i, a: a.square().sum()):
        (found,) = torch.autograd.grad(use(*with_average(x)), x)
        (wanted,) = torch.autograd.grad(use(x, x.mean((2, 3))), x)
        torch.testing.assert_close(found, wanted)
    assert torch.autograd.gradgradcheck(lambda x: loss(*with_average(x)), x, fast_mode=True)


def test_the_gradient_of_a_layer_can_be_taken_again_and_again() -> None:
    layer = DynamicConv2d(4, 4, 3, padding=1, groups=4).double()
    x = torch.randn(3, 4, 5, 6, dtype=torch.float64, requires_grad=True)
    output = layer(x).square().sum()
    first, second = (torch.autograd.grad(output, x, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second), "what is added in place is nobody else's"
