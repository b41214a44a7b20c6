"""`record_attention`: what is recorded, and entropy by hand."""

import math

import pytest
import torch
from torch import nn

from dyconv import AttentionRecorder, ConversionError, DynamicConv2d, record_attention


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
