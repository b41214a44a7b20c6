"""This module lists what is measured on a GPU: checks first, then networks, layers, single images, and sharing.

Each part yields cases: a title and a function that measures and returns a result as JSON holds it. `choosing` has the
table of choices.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.gpu import rivals
from benchmarks.gpu.clock import medians, peak
from benchmarks.gpu.setting import Setting
from benchmarks.timing import Step
from dyconv.functional import dynamic_conv2d
from dyconv.kernels.cuda.choices import algorithms_for, target_of
from dyconv.kernels.geometry import Geometry

Result = dict[str, Any]
_ONE = (1, 1)


@dataclass(frozen=True)
class Case:
    """One measurement."""

    title: str
    measure: Callable[[], Result]


def geometry(channels: tuple[int, int], size: int, kernel: int, **more: int) -> Geometry:
    """Return the shape of a square layer with "same" padding; `more` are batch, num_kernels, stride and groups."""
    side, stride, padding = (kernel, kernel), more.get("stride", 1), kernel // 2
    batch, num_kernels = more.get("batch", 64), more.get("num_kernels", 4)
    sizes = (size, size), side, (stride, stride), (padding, padding), _ONE
    return Geometry(batch, num_kernels, *channels, *sizes, more.get("groups", 1))


def title_of(g: Geometry) -> str:
    """Return the name of a shape in a table, such as `64→128 3×3 /2 at 56 px`."""
    kind = "×".join(map(str, g.kernel_size)) + (" dw" if g.depthwise else "")
    stride = f" /{g.stride[0]}" if g.stride[0] > 1 else ""
    return f"{g.in_channels}→{g.out_channels} {kind}{stride} at {g.input_size[0]} px"


_LAYERS = (
    geometry((64, 64), 56, 3),
    geometry((128, 128), 28, 3),
    geometry((256, 256), 14, 3),
    geometry((512, 512), 7, 3),
    geometry((64, 128), 56, 3, stride=2),
    geometry((24, 144), 56, 1),
    geometry((384, 64), 14, 1),
    geometry((960, 320), 7, 1),
    geometry((144, 144), 56, 3, groups=144),
    geometry((576, 576), 14, 3, groups=576),
    geometry((576, 576), 14, 3, groups=576, stride=2),
)
"""Layers of ResNet-18 and MobileNetV2 at 224 pixels."""
_TINY_LAYERS = (
    geometry((16, 24), 6, 3, batch=2),
    geometry((16, 24), 6, 1, batch=2),
    geometry((16, 16), 6, 3, batch=2, groups=16, stride=2),
)
_NETWORKS: tuple[tuple[str, str, int, int, dict[str, Any]], ...] = (
    ("ResNet-18, 224 px", "resnet18", 224, 128, {}),
    ("MobileNetV2 ×1.0, 224 px", "mobilenet_v2", 224, 128, {}),
    ("MobileNetV2 ×0.5, 32 px", "mobilenet_v2", 32, 256, {"width": 0.5, "stem_stride": 1}),
)
_TINY_NETWORKS: tuple[tuple[str, str, int, int, dict[str, Any]], ...] = (
    ("MobileNetV2 ×0.1, 8 px", "mobilenet_v2", 8, 2, {"width": 0.1, "depth": 0.1, "stem_stride": 1}),
)


def shapes(setting: Setting) -> tuple[Geometry, ...]:
    """Return the layers that are checked and timed."""
    return _TINY_LAYERS if setting.tiny else _LAYERS


def drawn(g: Geometry, dtype: torch.dtype, setting: Setting) -> tuple[Tensor, Tensor, Tensor]:
    """Return images, kernels and attention of a shape, with gradients."""
    images = setting.images(g.batch, g.in_channels, *g.input_size)
    weight = (
        torch.randn(g.num_kernels, g.out_channels, g.per_group, *g.kernel_size)
        / (g.per_group * g.kernel_size[0] * g.kernel_size[1]) ** 0.5
    )
    attention = torch.softmax(torch.randn(g.batch, g.num_kernels), 1)
    tensors = (images, weight.to(setting.device), attention.to(setting.device))
    first, second, third = (tensor.to(dtype).requires_grad_() for tensor in tensors)
    return first, second, third


def arguments_of(g: Geometry) -> dict[str, Any]:
    """Return stride, padding, dilation and groups as `dynamic_conv2d` takes them."""
    return {"stride": g.stride, "padding": g.padding, "dilation": g.dilation, "groups": g.groups}


def machine(setting: Setting) -> Iterator[Case]:
    """Yield the speed of the device: large products, a large copy, and the start of a program."""
    yield Case("products, a copy, a start", partial(_machine, setting))


def _machine(setting: Setting) -> Result:
    side = 128 if setting.tiny else 8192
    square = torch.randn(side, side, device=setting.device)
    half, copy, small = square.bfloat16(), torch.empty_like(square), torch.zeros(1, device=setting.device)
    steps: dict[str, Step] = {
        "bfloat16": lambda: half @ half,
        "vector": lambda: square @ square,
        "copy": lambda: copy.copy_(square),
        "starts": lambda: [small.add_(1) for _ in range(100)],
    }
    seconds = medians(steps, setting.device, setting.seconds)
    # TF32 has to be asked for; convolutions take it unasked.
    asked, torch.backends.cuda.matmul.allow_tf32 = torch.backends.cuda.matmul.allow_tf32, True
    try:
        tf32 = medians({"": steps["vector"]}, setting.device, setting.seconds / 4)[""]
    finally:
        torch.backends.cuda.matmul.allow_tf32 = asked
    operations = 2.0 * side**3
    return {
        "operations_per_second": {"bfloat16": operations / seconds["bfloat16"], "float32": operations / tf32},
        "vector": operations / seconds["vector"],
        "bytes_per_second": 2.0 * square.numel() * square.element_size() / seconds["copy"],
        "start_seconds": seconds["starts"] / 100,
    }


# Checks: a measurement of wrong numbers is worth nothing.


def checks(setting: Setting) -> Iterator[Case]:
    """Yield a check of every algorithm at every shape, a few images, against the definition in double precision."""
    for g in shapes(setting):
        # The definition takes an image at a time: a few tell as much as many.
        few = g._replace(batch=min(g.batch, 5))
        for dtype in (torch.float32, torch.bfloat16):
            yield Case(f"{title_of(g)}, {_name(dtype)}", partial(_check, few, dtype, setting))
    yield Case("a step without waiting, and as a CUDA graph", partial(_check_graph, shapes(setting)[0], setting))


def _check(g: Geometry, dtype: torch.dtype, setting: Setting) -> Result:
    """Return the largest error of output and gradients by algorithm, relative to the largest number of each."""
    torch.manual_seed(0)
    tensors = drawn(g, dtype, setting)
    exact = tuple(tensor.detach().double().requires_grad_() for tensor in tensors)
    expected = _with_gradients(_by_image(exact, g), exact)
    errors: dict[str, float] = {}
    for name in algorithms_for(g):
        results = _with_gradients(dynamic_conv2d(*tensors, algorithm=name, **arguments_of(g)), tensors)
        pairs = zip(results, expected, strict=True)
        errors[name] = max(float((one.double() - other).abs().max() / other.abs().max()) for one, other in pairs)
    # TF32 has the ten bits of half precision.
    most = 3e-2 if dtype is torch.bfloat16 else 5e-3
    return {"errors": errors, "most": most, "right": all(error <= most for error in errors.values())}


def _by_image(tensors: tuple[Tensor, ...], g: Geometry) -> Tensor:
    images, weight, attention = tensors
    kernels = torch.einsum("bk,k...->b...", attention, weight)
    return torch.cat([F.conv2d(images[b : b + 1], kernels[b], **arguments_of(g)) for b in range(g.batch)])


def _with_gradients(output: Tensor, tensors: tuple[Tensor, ...]) -> list[Tensor]:
    seed = torch.randn(output.shape, generator=torch.Generator().manual_seed(1)).to(output.device, output.dtype)
    return [output.detach(), *torch.autograd.grad(output, tensors, seed)]


def _check_graph(g: Geometry, setting: Setting) -> Result:
    """Take a step in which waiting for the GPU is an error, then capture it as a CUDA graph and compare its numbers."""
    tensors = drawn(g, torch.bfloat16, setting)

    def step() -> list[Tensor]:
        output = dynamic_conv2d(*tensors, **arguments_of(g))
        return [output.detach(), *torch.autograd.grad(output.sum(), tensors)]

    expected = step()
    if setting.device.type != "cuda":
        return {"right": True, "note": "a CPU has neither"}
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    graph.replay()
    torch.cuda.synchronize()
    return {"right": all(torch.equal(one, other) for one, other in zip(captured, expected, strict=True))}


# Times.


def networks(setting: Setting) -> Iterator[Case]:
    """Yield training steps of networks: eager first, as compiling takes most of the time."""
    listed = _TINY_NETWORKS if setting.tiny else _NETWORKS
    for title, name, pixels, batch, options in listed:
        yield Case(title, partial(_network, name, pixels, batch, options, False, setting))
    for title, name, pixels, batch, options in listed:
        yield Case(f"{title}, compiled", partial(_network, name, pixels, batch, options, True, setting))


def _network(name: str, pixels: int, batch: int, options: dict[str, Any], compile: bool, setting: Setting) -> Result:
    """Return seconds of a training step by implementation, and the memory at its peak."""
    torch.manual_seed(0)
    size = (3, pixels, pixels)
    built = rivals.networks(name, {"num_classes": 10, "seed": 0, "input_size": size, **options}, setting)
    if compile:
        built = rivals.compiled(built, setting)
    images = setting.images(batch, *size)
    steps = {rival: rivals.training_step(model, images, setting) for rival, model in built.items()}
    seconds = medians(steps, setting.device, setting.seconds)
    return {
        "batch": batch,
        "seconds": seconds,
        "images_per_second": {rival: batch / time for rival, time in seconds.items()},
        "peak_bytes": {rival: peak(step, setting.device) for rival, step in steps.items()},
    }


def layers(setting: Setting) -> Iterator[Case]:
    """Yield single layers, forward alone and forward and backward."""
    for g in shapes(setting):
        yield Case(title_of(g), partial(_layer, g, setting))


def _layer(g: Geometry, setting: Setting) -> Result:
    """Return seconds and memory by implementation."""
    torch.manual_seed(0)
    settings = {"kernel_size": g.kernel_size[0], "bias": False, **arguments_of(g)}
    built = rivals.layers((g.in_channels, g.out_channels), g.num_kernels, settings, setting)
    images = setting.images(g.batch, g.in_channels, *g.input_size).requires_grad_()
    forward = {name: rivals.looking(layer, images, setting) for name, layer in built.items()}
    both = {name: rivals.training_step(layer, images, setting) for name, layer in built.items()}
    return {
        "batch": g.batch,
        "forward_seconds": medians(forward, setting.device, setting.seconds / 2),
        "seconds": medians(both, setting.device, setting.seconds),
        "peak_bytes": {name: peak(step, setting.device) for name, step in both.items()},
    }


def single(setting: Setting) -> Iterator[Case]:
    """Yield one image through each network."""
    for title, name, pixels, _, options in _TINY_NETWORKS if setting.tiny else _NETWORKS:
        yield Case(title, partial(_single, name, pixels, options, setting))


def _single(name: str, pixels: int, options: dict[str, Any], setting: Setting) -> Result:
    size = (3, pixels, pixels)
    built = rivals.networks(name, {"num_classes": 10, "seed": 0, "input_size": size, **options}, setting)
    image = setting.images(1, *size)
    steps = {rival: rivals.looking(model.eval(), image, setting) for rival, model in built.items()}
    return {"seconds": medians(steps, setting.device, setting.seconds)}


def sharing(setting: Setting) -> Iterator[Case]:
    """Yield 1, 2, 4 and 8 small trainings at once on the GPU, for `--trials-per-gpu`."""
    for count in (1,) if setting.tiny else (1, 2, 4, 8):
        yield Case(f"{count} at once", partial(_sharing, count, setting))


def _sharing(count: int, setting: Setting) -> Result:
    """Return the images per second of so many processes together."""
    if setting.tiny:
        return {"count": count, "images_per_second": small_training(0.0, setting)}
    command = [sys.executable, "-m", "benchmarks.gpu", "--small-training", "5"]
    # A process that is killed with this one would go on alone otherwise.
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ}) for _ in range(count)]
    try:
        speeds = [float(process.communicate(timeout=90)[0]) for process in running]
    finally:
        for process in running:
            process.kill()
    return {"count": count, "images_per_second": sum(speeds)}


def small_training(seconds: float, setting: Setting) -> float:
    """Train a small network for so many seconds after a warm-up; return its images per second."""
    _, name, pixels, batch, options = (_TINY_NETWORKS if setting.tiny else _NETWORKS)[-1]
    model = rivals.networks(name, {"num_classes": 10, "seed": 0, "input_size": (3, pixels, pixels), **options}, setting)
    step = rivals.training_step(model["ours"], setting.images(batch, 3, pixels, pixels), setting)
    medians({"": step}, setting.device, 0.0)
    started, count = time.perf_counter(), 0
    while count == 0 or time.perf_counter() - started < seconds:
        step()
        count += 1
    if setting.device.type == "cuda":
        torch.cuda.synchronize(setting.device)
    return count * batch / (time.perf_counter() - started)


def device_name(setting: Setting) -> str:
    """Return the name of the device as the table of choices knows it."""
    target = target_of(setting.images(1, 1, 1, 1))
    return target.name if target is not None else "CPU, a dry run"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
