"""The compiled kernels as a processor with narrower registers runs them: not the one, maybe, that runs the tests."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dyconv import DynamicConv2d
from dyconv.functional import dynamic_conv2d
from dyconv.kernels import native
from tests.dyconv.definition import by_image, with_gradients

SOURCES = sorted(Path(native.__file__).parent.glob("csrc/_*.c"))
COMPILER = shutil.which("gcc") or shutil.which("cc")


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Any:
    if COMPILER is None:
        pytest.skip("there is no C compiler here")
    path = tmp_path_factory.mktemp("compiled") / "narrow.so"
    flags = ["-O1", "-DNO_WIDE_REGISTERS", "-Wno-psabi", "-shared", "-fPIC"]
    subprocess.run([COMPILER, *flags, "-o", str(path), *map(str, SOURCES), "-lm"], check=True)
    return native._load(path)


@pytest.mark.parametrize(
    ("algorithm", "channels", "kernel", "groups"),
    [
        ("tiled", (40, 24), 1, 1),
        ("tiled", (24, 40), 1, 1),
        ("tiled", (20, 36), 3, 1),
        ("direct", (44, 44), 3, 44),
        ("direct", (29, 29), 5, 29),
    ],
)
def test_narrow_registers_give_the_definition(
    narrow: Any,
    monkeypatch: pytest.MonkeyPatch,
    algorithm: str,
    channels: tuple[int, int],
    kernel: int,
    groups: int,
) -> None:
    monkeypatch.setattr(native, "_LIBRARY", narrow)
    images: Tensor = torch.randn(6, channels[0], 9, 7).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(4, channels[1], channels[0] // groups, kernel, kernel)
    tensors = images, weight, torch.softmax(torch.randn(6, 4), 1)
    for tensor in tensors:
        tensor.requires_grad_()
    how = {"padding": kernel // 2, "groups": groups}
    found = with_gradients(dynamic_conv2d(*tensors, algorithm=algorithm, **how), tensors)
    for one, other in zip(found, with_gradients(by_image(*tensors, **how), tensors), strict=True):
        torch.testing.assert_close(one, other.to(one.dtype), rtol=1e-4, atol=2e-3)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=["nchw", "channels_last"])
@pytest.mark.parametrize(("channels", "kernel", "groups"), [((20, 12), 1, 1), ((17, 37), 1, 1), ((29, 29), 3, 29)])
def test_narrow_registers_evaluate_a_whole_layer(
    narrow: Any,
    monkeypatch: pytest.MonkeyPatch,
    channels: tuple[int, int],
    kernel: int,
    groups: int,
    memory_format: torch.memory_format,
) -> None:
    layer = DynamicConv2d(*channels, kernel, padding=kernel // 2, groups=groups, bias=False)
    images = torch.randn(3, channels[0], 9, 7).contiguous(memory_format=memory_format)
    with torch.no_grad():
        by_own_processor = layer(images)
        monkeypatch.setattr(native, "_LIBRARY", narrow)
        calls: list[int] = []
        evaluate = native.evaluate
        monkeypatch.setattr(native, "evaluate", lambda *args: (calls.append(1), evaluate(*args)))
        for output in (layer(images), layer(images[:1])):
            torch.testing.assert_close(output, by_own_processor[: len(output)], rtol=1e-4, atol=1e-5)
    assert len(calls) == 2
