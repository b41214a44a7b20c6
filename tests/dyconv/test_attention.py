"""The attention branch against a computation by hand."""

import pytest
import torch

from dyconv import ArgumentError, AttentionBranch


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
