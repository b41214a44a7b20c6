"""The choice on CUDA devices: what the table says, and paths that neither wait for the device nor ask for its data.

No test here needs a GPU: tensors without memory say that they are on one.
"""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from dyconv.functional import dynamic_conv2d
from dyconv.kernels import algorithms, folding, operators, products, taps
from dyconv.kernels.algorithms import _ALGORITHMS, choose
from dyconv.kernels.cuda import choices, device, launching, roofline
from dyconv.kernels.cuda.choices import Target, algorithms_for, choices_of, geometry_of
from dyconv.kernels.geometry import Geometry

TABLE = json.loads(choices.TABLE.read_text())
ROWS = [(name, row) for name, part in TABLE["devices"].items() for row in part["rows"]]
ONE = (1, 1)


def name_of(algorithm: algorithms.Algorithm) -> str:
    return next(name for name, other in _ALGORITHMS.items() if other is algorithm)


def chosen(g: Geometry, target: Target) -> str:
    return name_of(choose(g, on_cpu=False, target=target))


def test_the_choice_is_the_fastest_of_its_row_for_every_shape_of_the_table() -> None:
    for name, row in ROWS:
        times, g = row["seconds"], geometry_of(row)
        target = Target(f"{name} 80GB", row["dtype"], has_programs=True)
        assert times[chosen(g, target)] == min(times.values())
        # Where Triton is missing, the fastest of the others.
        composite = {other: time for other, time in times.items() if other not in ("tiled", "direct")}
        assert times[chosen(g, target._replace(has_programs=False))] == min(composite.values())


def test_a_row_wins_over_the_estimate_and_serves_the_batches_below_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    g = Geometry(64, 4, 96, 96, (14, 14), ONE, ONE, (0, 0), ONE, 1)
    target = Target("NVIDIA H200", "bfloat16", has_programs=True)
    part = {**choices.estimated("NVIDIA H200", []), "rows": [choices.row_of(g, "bfloat16", {"grouped": 1.0})]}
    assert chosen(g, target) != "grouped"
    choices.write({"NVIDIA H200": part}, tmp_path / "choices.json")
    monkeypatch.setattr(choices, "TABLE", tmp_path / "choices.json")
    monkeypatch.setattr(choices, "choices_of", choices.choices_of.__wrapped__)
    monkeypatch.setattr(algorithms, "fastest", choices.fastest.__wrapped__)
    assert chosen(g, target) == chosen(g._replace(batch=33), target) == "grouped"
    assert chosen(g._replace(batch=32), target) != "grouped"
    assert chosen(g, target._replace(dtype="float32")) != "grouped"


def test_a_table_that_nobody_measured_says_so_and_is_the_estimate() -> None:
    for name, part in TABLE["devices"].items():
        if part["measured"] is None:
            assert part["note"] == choices.NOT_MEASURED
            shapes = [geometry_of(row) for row in part["rows"] if row["dtype"] == "bfloat16"]
            assert part == json.loads(json.dumps(choices.estimated(name, shapes)))


def test_an_unknown_device_takes_the_first_part_of_the_table_and_a_known_one_its_own() -> None:
    first = next(iter(TABLE["devices"]))
    assert choices_of("") == choices_of("Some other device") == choices_of(first)
    assert choices_of("NVIDIA A100-SXM4-80GB") == choices_of("NVIDIA A100") != choices_of(first)


def test_estimates_follow_the_shape() -> None:
    """Mixing pays on tiny maps of many channels, a kernel per image on large ones; grouped convolution hardly ever."""
    target = Target("NVIDIA H200", "bfloat16", has_programs=True)
    large = Geometry(64, 4, 64, 64, (56, 56), (3, 3), ONE, ONE, ONE, 1)
    tiny = large._replace(in_channels=512, out_channels=512, input_size=(4, 4))
    assert chosen(large, target) == "tiled"
    assert chosen(tiny, target) in ("mix_input", "mix_output")
    assert chosen(large._replace(in_channels=64, groups=64), target) == "direct"
    assert chosen(large._replace(batch=1), target) == chosen(large._replace(num_kernels=1), target) == "plain"
    assert chosen(large._replace(stride=(2, 2), dilation=(2, 2)), target) not in ("tiled", "direct")
    assert chosen(large._replace(num_kernels=17), target) not in ("tiled", "direct")
    assert chosen(large, target._replace(dtype="float64", has_programs=False)) in available(large)
    in_two_groups = large._replace(groups=2)
    assert chosen(in_two_groups, target) in available(in_two_groups)


def available(g: Geometry) -> list[str]:
    return algorithms.available_algorithms(g)


@pytest.mark.parametrize("name", [name for name in _ALGORITHMS if name not in ("plain", "each")])
def test_every_algorithm_that_may_be_chosen_has_an_estimate(name: str) -> None:
    g = Geometry(64, 4, 64, 64, (14, 14), (3, 3), ONE, ONE, ONE, 64 if name in ("depthwise", "direct", "taps") else 1)
    sheet = roofline.DEVICES["NVIDIA H200"]
    slow = sheet._replace(bytes_per_second=1.0)
    time = roofline.seconds(name, g, sheet, "bfloat16", roofline.SHARES)
    assert name in algorithms_for(g)
    assert 0 < time < roofline.seconds(name, g, slow, "bfloat16", roofline.SHARES)
    assert time < roofline.seconds(name, g._replace(batch=6400), sheet, "bfloat16", roofline.SHARES)


class _NothingIsRead(TorchDispatchMode):
    """Fails for an operation that would make the CPU wait for a device, or whose result has a size that data decide."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        assert name not in ("_local_scalar_dense", "item", "nonzero", "is_nonzero", "equal", "unique2", "masked_select")
        result = func(*args, **(kwargs or {}))
        devices = {tensor.device.type for tensor in (*args, result) if isinstance(tensor, Tensor) and tensor.dim()}
        assert len(devices) < 2, f"{name} moves data between devices"
        return result


@pytest.fixture
def as_on_device(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Lets tensors of device "meta", which have no memory, go the way of those on a GPU; notes programs by name.

    Torch's autograd would start CUDA for tensors that say "cuda".
    """
    names: list[str] = []
    monkeypatch.setattr(device, "is_on_device", lambda tensor: True)
    monkeypatch.setattr(launching, "_start", lambda name, *arguments, **constants: names.append(name))
    # Hand-written derivatives step aside where a mode looks at each operation; here they are to be walked.
    for module in (products, folding, taps):
        monkeypatch.setattr(module, "is_ordinary", lambda *tensors: True)
    return names


SHAPES = {
    "pointwise": Geometry(8, 4, 32, 48, (7, 7), ONE, ONE, (0, 0), ONE, 1),
    "pointwise, stride": Geometry(8, 4, 32, 48, (7, 7), ONE, (2, 2), (0, 0), ONE, 1),
    "3 x 3": Geometry(8, 4, 32, 48, (7, 7), (3, 3), ONE, ONE, ONE, 1),
    "3 x 3, stride": Geometry(8, 4, 32, 48, (7, 7), (3, 3), (2, 2), ONE, ONE, 1),
    "depthwise": Geometry(8, 4, 32, 32, (7, 7), (3, 3), ONE, ONE, ONE, 32),
    "grouped": Geometry(8, 4, 32, 48, (7, 7), (3, 3), ONE, ONE, ONE, 2),
}


def _drawn(g: Geometry, dtype: torch.dtype, on: str) -> tuple[Tensor, Tensor, Tensor]:
    images = torch.empty(g.batch, g.in_channels, *g.input_size, dtype=dtype, device=on)
    weight = torch.empty(g.num_kernels, g.out_channels, g.per_group, *g.kernel_size, dtype=dtype, device=on)
    attention = torch.empty(g.batch, g.num_kernels, dtype=dtype, device=on)
    images = images.contiguous(memory_format=torch.channels_last)
    return images.requires_grad_(), weight.requires_grad_(), attention.requires_grad_()


@pytest.mark.parametrize("shape", SHAPES)
def test_no_algorithm_waits_for_the_device(as_on_device: list[str], shape: str) -> None:
    g = SHAPES[shape]
    how = {"stride": g.stride, "padding": g.padding, "groups": g.groups}
    for name in (None, *algorithms_for(g)):
        for dtype in (torch.float32, torch.bfloat16):
            tensors = _drawn(g, dtype, "meta")
            with _NothingIsRead():
                output = dynamic_conv2d(*tensors, algorithm=name, **how)
                gradients = torch.autograd.grad(output, tensors, torch.empty_like(output))
            assert output.dtype == dtype
            assert output.shape == (g.batch, g.out_channels, *g.output_size)
            assert output.is_contiguous(memory_format=torch.channels_last), name
            assert [one.shape for one in gradients] == [tensor.shape for tensor in tensors]


@pytest.mark.parametrize("shape", [name for name in SHAPES if name != "grouped"])
def test_starting_programs_does_not_wait_either(as_on_device: list[str], shape: str) -> None:
    g = SHAPES[shape]
    tensors = tuple(tensor.detach() for tensor in _drawn(g, torch.bfloat16, "meta"))
    arguments = *tensors, g.stride, g.padding, g.dilation, g.groups
    with _NothingIsRead():
        output = operators._MIXED._compiled(*arguments)
        gradients = operators._MIXED._backward_compiled(torch.empty_like(output), *arguments, [True] * 3)
    promised = operators._MIXED._backward_shapes(output, *arguments, [True] * 3)
    assert output.shape == (g.batch, g.out_channels, *g.output_size)
    for real, shape_alone in zip(gradients, promised, strict=True):
        assert real.shape == shape_alone.shape
        assert real.stride() == shape_alone.stride()
        assert real.dtype == shape_alone.dtype
    name = "depthwise" if g.groups > 1 else "mixed_product"
    assert as_on_device == [name, name, "depthwise_kernel_gradient" if g.groups > 1 else "kernel_gradient"]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_call_with_tensors_on_a_device_takes_what_the_table_says(monkeypatch: pytest.MonkeyPatch, shape: str) -> None:
    g = SHAPES[shape]
    run: list[str] = []
    for name, algorithm in list(_ALGORITHMS.items()):

        def noted(*arguments: Any, name: str = name, algorithm: algorithms.Algorithm = algorithm) -> Tensor:
            run.append(name)
            return algorithm.run(*arguments)

        monkeypatch.setitem(_ALGORITHMS, name, algorithm.__class__(**{**vars(algorithm), "run": noted}))
    with FakeTensorMode():
        tensors = _drawn(g, torch.bfloat16, "cuda")
        output = dynamic_conv2d(*tensors, stride=g.stride, padding=g.padding, groups=g.groups)
    assert output.device.type == "cuda"
    target = Target("", "bfloat16", device.has_triton())
    assert run == [chosen(g, target)]


@pytest.mark.parametrize(
    ("missing", "expected"), [(None, True), ("triton", False), ("compiler", False), ("recent device", False)]
)
def test_programs_step_aside_where_they_cannot_be_started(
    monkeypatch: pytest.MonkeyPatch, missing: str | None, expected: bool
) -> None:
    monkeypatch.setattr(device, "find_spec", lambda name: None if missing == "triton" else object())
    monkeypatch.setattr(device, "which", lambda name: None if missing == "compiler" else "/usr/bin/cc")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        torch.cuda, "get_device_capability", lambda index: (7, 5) if missing == "recent device" else (8, 0)
    )
    monkeypatch.setattr(device, "has_triton", device.has_triton.__wrapped__)
    monkeypatch.setattr(device, "is_recent", device.is_recent.__wrapped__)
    with FakeTensorMode():
        tensors = _drawn(SHAPES["pointwise"], torch.bfloat16, "cuda")
    assert device.computes(*tensors) is expected
    assert not device.computes(tensors[0], tensors[1].float())
    assert not device.computes(tensors[0].double())
    assert not device.computes(torch.zeros(2, dtype=torch.bfloat16))


def test_float32_is_multiplied_as_torch_is_told_to() -> None:
    assert launching.precision_of(torch.float32) == "tf32", "torch's default for convolutions"
    assert launching.precision_of(torch.bfloat16) == "ieee"
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        assert launching.precision_of(torch.float32) == "ieee"
    conv: Any = getattr(torch.backends.cudnn, "conv", None)
    if conv is not None:
        before, conv.fp32_precision = conv.fp32_precision, "ieee"
        try:
            assert launching.precision_of(torch.float32) == "ieee"
        finally:
            conv.fp32_precision = before
    assert launching.precision_of(torch.float32) == "tf32"


def test_no_part_of_a_batch_is_empty() -> None:
    for images, tiles in ((1, 1), (5, 1), (64, 9), (64, 72), (3, 10_000), (128, 5)):
        splits = launching.splits_of(images, tiles)
        per_split = math.ceil(images / splits)
        assert 1 <= splits <= images
        assert (math.ceil(images / per_split) - 1) * per_split < images
