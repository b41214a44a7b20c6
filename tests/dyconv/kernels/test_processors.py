"""The compiled kernels as a processor with narrower registers runs them: not the one, maybe, that runs the tests."""

import re
import shutil
import subprocess
from collections.abc import Iterator
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


ARM_COMPILER = shutil.which("aarch64-linux-gnu-gcc")


@pytest.fixture(scope="module", params=["NO_WIDE_REGISTERS", "NARROW_REGISTERS"])
def narrow(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return the kernels compiled for registers of eight numbers, or of four as ARM's are."""
    if COMPILER is None:
        pytest.skip("there is no C compiler here")
    path = tmp_path_factory.mktemp("compiled") / "narrow.so"
    flags = ["-O1", f"-D{request.param}", "-Wno-psabi", "-shared", "-fPIC"]
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


def innermost_loops(assembly: str) -> Iterator[list[str]]:
    """Yield the instructions of each loop that has no other inside."""
    lines = assembly.splitlines()
    labels = {line[:-1]: number for number, line in enumerate(lines) if re.fullmatch(r"\.L\w+:", line)}
    for number, line in enumerate(lines):
        branch = re.match(r"\s+(?:b\.?\w*|cbn?z|tbn?z)\s.*?(\.L\w+)$", line)
        if branch is None or labels.get(branch[1], number) >= number:
            continue
        body = lines[labels[branch[1]] + 1 : number + 1]
        if not any(label.startswith(".L") for label in body):
            yield body


@pytest.mark.parametrize("source", ["_panels.c", "_tiled.c", "_evaluating.c"])
@pytest.mark.skipif(ARM_COMPILER is None, reason="there is no compiler for ARM here")
def test_sums_stay_in_the_registers_of_arm(source: str, tmp_path: Path) -> None:
    assert ARM_COMPILER is not None
    path = next(path for path in SOURCES if path.name == source)
    assembly = tmp_path / "arm.s"
    flags = ["-O3", "-Wno-psabi", "-fPIC", "-S"]
    subprocess.run([ARM_COMPILER, *flags, "-o", str(assembly), str(path)], check=True)
    multiplying = 0
    for body in innermost_loops(assembly.read_text(encoding="utf-8")):
        products = sum("fmla" in line for line in body)
        # The loops that multiply a tile with many pixels, whose numbers are loaded once for several products.
        loads = sum(bool(re.match(r"\s+ld", line)) for line in body)
        if products < 16 or loads > products:
            continue
        multiplying += 1
        # A few that do not fit are no harm; where compilers take vectors apart, there are more than there are products.
        spilled = sum(bool(re.match(r"\s+st[rp]\s+[qv].*\[(?:sp|x29)", line)) for line in body)
        assert spilled <= products / 6, "\n".join(body)
    assert multiplying
