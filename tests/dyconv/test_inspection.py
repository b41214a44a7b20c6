"""`record_attention`: what is recorded, and entropy by hand."""

import math

import pytest
import torch
from torch import nn

from dyconv import AttentionRecorder, ConversionError, DynamicConv2d, record_attention
from dyconv.inspection import normalized_entropy


def test_weights_of_all_images_before_and_after_the_strategy() -> None:
    model = nn.Sequential(DynamicConv2d(3, 4, 3, aggregation="max"), nn.ReLU(), DynamicConv2d(4, 4, 3, num_kernels=2))
    batches = [torch.randn(4, 3, 8, 8), torch.randn(2, 3, 8, 8)]
    with record_attention(model) as recorder:
        for batch in batches:
            model(batch)
    model(batches[0])
    assert {name: tuple(w.shape) for name, w in recorder.branch.items()} == {"0": (6, 4), "2": (6, 2)}
    first = model[0]
    assert isinstance(first, DynamicConv2d)
    torch.testing.assert_close(recorder.branch["0"], torch.cat([first.attention(b) for b in batches]).detach())
    assert torch.equal(recorder.used["0"].sort(1).values, torch.tensor([0.0, 0, 0, 1]).expand(6, 4))
    assert torch.equal(recorder.used["2"], recorder.branch["2"])
    assert not recorder.branch["0"].requires_grad


def test_entropy_by_hand() -> None:
    recorder = AttentionRecorder()
    weights = torch.tensor([[0.5, 0.5], [1.0, 0.0]])
    recorder.add("a", weights, weights)
    recorder.add("b", torch.ones(3, 1), torch.ones(3, 1))
    assert recorder.entropy() == {"a": pytest.approx(math.log(2) / 2), "b": 0.0}
    assert recorder.entropy(normalized=True) == {"a": pytest.approx(0.5), "b": 1.0}


def test_hooks_are_gone_after_and_after_an_error() -> None:
    model = nn.Sequential(DynamicConv2d(3, 4, 3))
    with pytest.raises(KeyError), record_attention(model):
        raise KeyError("stop")
    assert not any(m._forward_hooks for m in model.modules())


def test_a_static_network_has_nothing_to_record() -> None:
    with pytest.raises(ConversionError, match="no dynamic layer"), record_attention(nn.Conv2d(1, 1, 1)):
        pass


class Twice(nn.Module):
    """Uses one layer twice in a pass, or as often as it is told, and one never."""

    def __init__(self, calls: int = 2) -> None:
        super().__init__()
        self.calls = calls
        self.conv = DynamicConv2d(4, 4, 3, padding=1, num_kernels=3, temperature=0.1)
        self.idle = DynamicConv2d(4, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(self.calls):
            x = self.conv(x)
        return x


@pytest.mark.parametrize("calls", [1, 2, 3])
def test_several_calls_in_a_pass_count_as_one(calls: int) -> None:
    model, batches = Twice(calls).eval(), [torch.randn(5, 4, 6, 6), torch.randn(2, 4, 6, 6)]
    with torch.no_grad(), record_attention(model) as recorder:
        for batch in batches:
            model(batch)
    expected = []
    with torch.no_grad():
        for batch in batches:
            seen = []
            for _ in range(calls):
                seen.append(model.conv.attention(batch))
                batch = model.conv(batch)
            expected.append(torch.stack(seen).mean(0))
    assert list(recorder.branch) == ["conv"], "a layer that is not reached is left out"
    torch.testing.assert_close(recorder.branch["conv"], torch.cat(expected))
    torch.testing.assert_close(recorder.used["conv"], torch.cat(expected))


def test_calls_outside_a_pass_are_taken_one_by_one() -> None:
    model = Twice()
    with torch.no_grad(), record_attention(model) as recorder:
        model(torch.randn(2, 4, 6, 6))
        model.conv(torch.randn(3, 4, 6, 6))
        model.conv(torch.randn(3, 4, 6, 6))
        with pytest.raises(Exception, match="channels"):
            model(torch.randn(2, 5, 6, 6).double())
        model.conv(torch.randn(1, 4, 6, 6))
    assert recorder.branch["conv"].shape == (9, 3)
    assert not model._forward_pre_hooks
    assert not model._forward_hooks


def test_entropy_of_uniform_one_hot_and_half_and_half() -> None:
    weights = torch.tensor([[0.25] * 4, [1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0]])
    assert normalized_entropy(weights).tolist() == pytest.approx([1.0, 0.0, 0.5])


def test_entropy_of_weights_that_do_not_sum_to_one_is_that_of_their_shares() -> None:
    weights = torch.tensor([[0.9, 0.3], [0.75, 0.25], [0.0, 0.0]])
    first, second, of_zeros = normalized_entropy(weights).tolist()
    assert first == pytest.approx(second)
    assert first == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) / math.log(2))
    assert of_zeros == 0.0


def test_one_kernel_alone_is_uniform() -> None:
    assert normalized_entropy(torch.ones(3, 1)).tolist() == [1.0, 1.0, 1.0]
