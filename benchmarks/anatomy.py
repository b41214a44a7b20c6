"""This module splits the time of a training step: products, copies, sums, norms and activations, and calls."""

from __future__ import annotations

from torch.profiler import ProfilerActivity, profile

from benchmarks.timing import Step

_STEPS = 3
_KINDS: dict[str, tuple[str, ...]] = {
    "products": (
        "aten::convolution_backward", "aten::mkldnn_convolution", "aten::_slow_conv2d_forward", "aten::bmm",
        "aten::baddbmm_", "aten::mm", "aten::addmm", "aten::addmm_",
    ),
    "copies": ("aten::copy_", "aten::fill_", "aten::zero_", "aten::cat", "aten::constant_pad_nd", "aten::index"),
    "sums": ("aten::sum", "aten::add", "aten::add_", "aten::mul", "aten::addcmul_", "aten::div", "aten::mean"),
    "norms and activations": (
        "aten::native_batch_norm", "aten::native_batch_norm_backward", "aten::hardtanh", "aten::hardtanh_",
        "aten::hardtanh_backward", "aten::clamp", "aten::clamp_min", "aten::clamp_min_", "aten::relu", "aten::relu_",
        "aten::threshold_backward",
    ),
}  # fmt: skip
KINDS = (*_KINDS, "calls")


def anatomy(step: Step) -> dict[str, float]:
    """Return the seconds of a step by kind of work, from torch's profiler, which slows calls down.

    "calls" is all other work: Python, the dispatcher, autograd, allocation and the small operations of attention.
    """
    for _ in range(_STEPS):
        step()
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        for _ in range(_STEPS):
            step()
    seconds = {event.key: event.self_cpu_time_total / 1e6 / _STEPS for event in recorded.key_averages()}
    # `pop`, so that what no kind claims is left over as calls.
    by_kind = {kind: sum(seconds.pop(name, 0.0) for name in ops) for kind, ops in _KINDS.items()}
    return {**by_kind, "calls": sum(seconds.values())}
