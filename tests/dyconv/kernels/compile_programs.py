"""Compiles the Triton programs for GPUs that need not be here, and prints what each takes, a JSON object a line.

`python -m tests.dyconv.kernels.compile_programs frontend` stops after Triton's own language; without it, machine code
is made for an H200 (9.0) and an A100 (8.0) with every tile. A process of its own: the tests' Triton is an interpreter.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import triton
from triton._C.libtriton import ir
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.compiler.compiler import make_backend

from dyconv.kernels.cuda import launching, programs
from dyconv.kernels.cuda.launching import Meeting, Tile

_FLOAT32 = ("to_kernels", "to_attention")
_DISASSEMBLER = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"


class Case(NamedTuple):
    """A program, its tile, the dtype of its tensors, the number of kernels, and how source and result meet."""

    program: str
    tile: Tile
    dtype: str = "bf16"
    num_kernels: int = 4
    meeting: Meeting = Meeting((3, 3), (1, 1), (1, 1), (1, 1))

    def source(self) -> Any:
        """Return the program as Triton compiles it."""
        function = getattr(programs, self.program)
        constants = self._constants()
        signature, attributes = {}, {}
        for number, parameter in enumerate(function.params):
            name = parameter.name
            is_pointer = name in ("source", "grad", "kernels", "attention", "result", *_FLOAT32)
            if name in constants:
                signature[name] = "constexpr"
            elif is_pointer:
                signature[name] = "*fp32" if name in _FLOAT32 else f"*{self.dtype}"
            else:
                signature[name] = "i32"
            # What Triton sees in a usual layer: channels are a multiple of 16.
            if is_pointer or name in ("inner", "outer", "channels", "kernel_stride", "tap_stride", "inner_stride"):
                attributes[number,] = [["tt.divisibility", 16]]
        names = {parameter.name for parameter in function.params}
        chosen = {name: value for name, value in constants.items() if name in names}
        return ASTSource(function, signature, chosen, attributes)

    def _constants(self) -> dict[str, Any]:
        return {
            **self.meeting.constants(self.meeting.transposed),
            "mixed": True,
            "num_kernels": self.num_kernels,
            "lanes_kernels": launching.lanes_of(self.num_kernels),
            "block_pixels": self.tile.pixels,
            "block_inner": self.tile.inner,
            "block_outer": self.tile.outer,
            "block_channels": self.tile.inner,
            "outer_stride": 1,
            "precision": "tf32" if self.dtype == "fp32" else "ieee",
        }

    def options(self) -> dict[str, int]:
        """Return what Triton is told beside the source."""
        return {"num_warps": self.tile.warps, "num_stages": self.tile.stages}


def cases() -> Iterator[Case]:
    """Yield every program with every tile, and what is special: strides, float32, many kernels."""
    product, gradient, depthwise = launching.PRODUCT_TILES, launching.GRADIENT_TILES, launching.DEPTHWISE_TILES
    for tile in product:
        yield Case("mixed_product", tile)
    for tile in gradient:
        yield Case("kernel_gradient", tile)
    for tile in depthwise:
        yield Case("depthwise", tile)
        yield Case("depthwise_kernel_gradient", tile)
    strided = Meeting((3, 3), (2, 2), (1, 1), (1, 1), transposed=True)
    yield Case("mixed_product", product[1], meeting=strided)
    yield Case("depthwise", depthwise[0], meeting=strided)
    for dtype, size in (("fp32", 4), ("bf16", 2)):
        for num_kernels in (4, 16):
            yield Case("mixed_product", launching.product_tile(64, 3136, 512, num_kernels, size), dtype, num_kernels)
            yield Case("kernel_gradient", launching.gradient_tile(num_kernels, 512, 512), dtype, num_kernels)


def few() -> Iterator[Case]:
    """Yield each program once."""
    yield Case("mixed_product", launching.PRODUCT_TILES[-1])
    yield Case("kernel_gradient", launching.GRADIENT_TILES[-1])
    yield Case("depthwise", launching.DEPTHWISE_TILES[-1])
    yield Case("depthwise_kernel_gradient", launching.DEPTHWISE_TILES[-1])


def check(case: Case) -> dict[str, Any]:
    """Translate a program into Triton's language, and let that be verified."""
    backend = make_backend(GPUTarget("cuda", 90, 32))
    context = ir.context()
    ir.load_dialects(context)
    backend.load_dialects(context)
    options = backend.parse_options(case.options())
    make = case.source().make_ir
    module = make(
        GPUTarget("cuda", 90, 32),
        options,
        backend.get_codegen_implementation(options),
        backend.get_module_map(),
        context,
    )
    return {"program": case.program, "verified": module.verify()}


def compile_for(case: Case, architecture: int) -> dict[str, Any]:
    """Compile a program; return the memory and registers that it takes."""
    target = GPUTarget("cuda", architecture, 32)
    compiled = triton.compile(case.source(), target=target, options=case.options())
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        command = [str(_DISASSEMBLER), "-res-usage", file.name]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    registers, stack = re.findall(r"REG:(\d+) STACK:(\d+)", said)[0]
    return {
        "program": case.program,
        "tile": case.tile,
        "dtype": case.dtype,
        "num_kernels": case.num_kernels,
        "architecture": architecture,
        "shared_bytes": compiled.metadata.shared,
        "registers": int(registers),
        "stack_bytes": int(stack),
        "matrix_instructions": sorted({name for name in ("wgmma", "mma.sync") if name in compiled.asm["ptx"]}),
    }


def main(arguments: list[str]) -> None:
    """Compile everything, or check each program once."""
    if "frontend" in arguments:
        results = [check(case) for case in few()]
    else:
        results = [compile_for(case, architecture) for architecture in (90, 80) for case in cases()]
    for result in results:
        sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
