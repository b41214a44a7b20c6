"""This module calls the compiled kernels in `csrc`: attention, depthwise, mixing, ordering, panels, tiles, layers.

They are built when the package is installed, if there is a C compiler, are called through ctypes, and compute float32
on the CPU; torch computes everything else. Callers are `compiled`, `depthwise`, `evaluating`, `kernel_ops`, `panels`,
`pooling` and `tiling`.

Dimensions: B images, K kernels, N numbers in a kernel; H x W source and h x w result positions, C channels, T taps;
I rows and J columns of a matrix; U hidden units of an attention branch.
"""

import ctypes
from collections.abc import Sequence
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dyconv.kernels.tracing import PLAIN, is_exported, is_traced

_FLOAT32, _has_storage = torch.float32, torch._C._has_storage

MOST_ROWS = 16
"""The most rows of a depthwise kernel that the C code convolves."""
MOST_KERNELS = 16
"""The most kernels that the C code mixes."""
_MOST_TAPS = 256
"""The most taps of a kernel that the C code re-orders."""
FEWEST_COLUMNS = 8
"""The least columns of a matrix that the C code multiplies with."""
LANES, _HEIGHT = 16, 16
"""Numbers that the C code sums side by side, and rows of a tile: they give the size of its scratch memory."""

Meetings = Sequence[Sequence[tuple[int, int]]]
"""For each position of a result, pairs of a kernel row (or column) and the source row (or column) that it meets."""


def _integers(*names: str) -> tuple[tuple[str, Any], ...]:
    """Return fields of 64-bit integers."""
    return tuple((name, ctypes.c_int64) for name in names)


class Axis(ctypes.Structure):
    """The meetings along one axis, as the C code reads them."""

    _fields_ = (
        ("start", ctypes.POINTER(ctypes.c_int32)),
        ("tap", ctypes.POINTER(ctypes.c_int32)),
        ("source", ctypes.POINTER(ctypes.c_int32)),
        *_integers("size", "source_size", "taps"),
    )

    @classmethod
    def of(cls, meetings: Meetings, source_size: int, taps: int) -> "Axis":
        """Return the axis of these meetings, on a source and a kernel of so many rows (or columns)."""
        # Compressed rows: the meetings of position n are start[n] to start[n + 1] of two flat arrays.
        starts: list[int] = [0]
        met_taps: list[int] = []
        met_sources: list[int] = []
        for pairs in meetings:
            for tap, source in pairs:
                met_taps.append(tap)
                met_sources.append(source)
            starts.append(len(met_taps))
        arrays = _int32_array(starts), _int32_array(met_taps), _int32_array(met_sources)
        return cls(*arrays, len(meetings), source_size, taps)


def _int32_array(numbers: Sequence[int]) -> "ctypes.Array[ctypes.c_int32]":
    return (ctypes.c_int32 * len(numbers))(*numbers)


class Side(ctypes.Structure):
    """The distances in memory between two images, two lines and two pixels of a line."""

    _fields_ = _integers("image", "line", "pixel")


class Reach(ctypes.Structure):
    """The begin of a tap on both sides, and the lines and pixels of a line that it brings from one to the other."""

    _fields_ = _integers("source", "result", "lines", "pixels")


class Matrices(ctypes.Structure):
    """The numbers of kernels, taps, rows I and columns J, and their distances in memory."""

    _fields_ = _integers("kernels", "taps", "rows", "columns", "kernel", "tap", "row", "column")


class Window(ctypes.Structure):
    """The pixels of a source and of a result that meet, as the C code reads them.

    `fills` says that the first tap does not reach all pixels of the result; `pixels` is the most that a tap reaches.
    """

    _fields_ = (
        *_integers("images", "pixels", "fills"),
        ("source", Side),
        ("result", Side),
        ("matrices", Matrices),
        ("reaches", ctypes.POINTER(Reach)),
    )

    @classmethod
    def of(cls, images: int, source: Side, result: Side, matrices: Matrices, reaches: Sequence[Reach]) -> "Window":
        """Return the window of these taps."""
        pixels = max(reach.lines * reach.pixels for reach in reaches)
        # Later taps add to what the first one wrote, so pixels that it does not reach must be filled before.
        covers_result = reaches[0].lines * reaches[0].pixels * matrices.columns == result.image
        return cls(images, pixels, not covers_result, source, result, matrices, (Reach * len(reaches))(*reaches))


class Map(ctypes.Structure):
    """Channels, pixels, places between two lines that a tap reaches, and the pixel in each place of a panel."""

    _fields_ = (*_integers("channels", "pixels", "line"), ("pixel", ctypes.POINTER(ctypes.c_int32)))

    @classmethod
    def of(cls, channels: int, pixels: Sequence[int], line: int) -> "Map":
        """Return the map of these pixels, in the order of their places."""
        return cls(channels, len(pixels), line, _int32_array(pixels))


class PanelWindow(ctypes.Structure):
    """Both sides of a convolution by panels, as the C code reads them.

    `turned` says that the source has the output channels, as in the gradient of an input.
    """

    _fields_ = (
        *_integers("images", "kernels", "taps", "turned"),
        ("source", Map),
        ("result", Map),
        ("reaches", ctypes.POINTER(Reach)),
    )

    @classmethod
    def of(
        cls, images: int, kernels: int, turned: bool, source: Map, result: Map, reaches: Sequence[Reach]
    ) -> "PanelWindow":
        """Return the window of these taps."""
        return cls(images, kernels, len(reaches), turned, source, result, (Reach * len(reaches))(*reaches))


class Sizes(ctypes.Structure):
    """The sizes of an attention branch, and the temperature of its softmax; `planes` is that of a `Layer`."""

    _fields_ = (
        *_integers("images", "pixels", "channels", "hidden", "kernels", "planes"),
        ("temperature", ctypes.c_float),
    )


class Layer(ctypes.Structure):
    """A layer that is evaluated as a whole, as the C code reads it.

    `kind` is one of `MIXED`, `POINTWISE` and `DEPTHWISE`. `planes` says that images are stored channel by channel.
    `numbers`, `source` and `result` are the numbers in a kernel and in an image before and after; `work` is the
    multiply-adds of a batch. A pointwise layer reads `lines` of `line` pixels, which lie so far apart.
    """

    _fields_ = (
        *_integers("kind", "planes", "images", "kernels", "channels", "outputs", "numbers", "source", "result"),
        *_integers("lines", "line", "apart_lines", "apart_pixels"),
        *((name, ctypes.c_int64 * 2) for name in ("size", "output", "kernel", "stride", "padding", "dilation")),
        ("rows", ctypes.POINTER(Axis)),
        ("columns", ctypes.POINTER(Axis)),
        *_integers("work"),
    )


MIXED, POINTWISE, DEPTHWISE = range(3)
"""What the C code writes for a layer: the mixed kernels, or the convolution that these make."""


def available() -> bool:
    """Return True if the compiled kernels were built."""
    return _LIBRARY is not None


def can_read(*tensors: Tensor) -> bool:
    """Return True if the compiled kernels can take the addresses of these: float32 in the memory of the CPU.

    A tensor of a subclass, or one under a mode or a transform, may have no memory, or a meaning of its own.
    """
    if _LIBRARY is None or is_traced():
        return False
    # The tests of `is_ordinary`, and more, in one loop: it runs in every layer. Only a strided tensor has a storage.
    for tensor in tensors:
        if type(tensor) not in PLAIN or not _has_storage(tensor):
            return False
        # A view with a pending negation, and a tensor whose memory was freed, cannot be read.
        if tensor.dtype is not _FLOAT32 or not tensor.is_cpu or tensor.is_neg():
            return False
        if not tensor.data_ptr() and tensor.numel():
            return False
    return True


def computes(*tensors: Tensor) -> bool:
    """Return True if the compiled kernels compute with tensors of this dtype on this device.

    It asks for nothing that a tensor without memory could not say; `operators` sees to those.
    """
    if not available():
        return False
    for tensor in tensors:
        if tensor.dtype is not torch.float32 or not tensor.is_cpu or tensor.layout is not torch.strided:
            return False
    return not is_exported()


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def gather(source: Tensor, kernels: Tensor, start: Tensor | None, result: Tensor, rows: Axis, columns: Axis) -> None:
    """Write to `result` (B, C, h, w), at each position, the sum of its taps (B, T, C) times the (B, C, H, W) they meet.

    Both are channels-last. Sums begin at `start` (B, C), contiguous, or at zero if that is None.
    """
    pointers = source.data_ptr(), kernels.data_ptr(), _pointer(start), result.data_ptr()
    _LIBRARY.dyconv_gather(*pointers, rows, columns, *source.shape[:2], torch.get_num_threads())


def kernel_gradient(source: Tensor, to_kernels: Tensor, grad: Tensor, rows: Axis, columns: Axis) -> None:
    """Write to `to_kernels` (B, T, C) the gradient of the kernels, from `grad`, that of the result, (B, C, h, w)."""
    pointers = source.data_ptr(), to_kernels.data_ptr(), grad.data_ptr()
    _LIBRARY.dyconv_kernel_gradient(*pointers, rows, columns, *source.shape[:2], torch.get_num_threads())


def average(images: Tensor, planes: bool) -> Tensor:
    """Return the (B, C) mean over pixels of (B, C, H, W) images, stored channel by channel (`planes`) or last."""
    result, (batch, channels) = images.new_empty(images.shape[:2]), images.shape[:2]
    sizes = batch, images.shape[2:].numel(), channels, planes, torch.get_num_threads()
    _LIBRARY.dyconv_average(images.data_ptr(), result.data_ptr(), *sizes)
    return result


def attend(sizes: Sizes, images: Tensor, layers: Sequence[Tensor], results: Sequence[Tensor]) -> None:
    """Write averages (B, C), hidden units (B, H) and attention (B, K), from images and two layers' parameters."""
    pointers = [tensor.data_ptr() for tensor in (images, *layers, *results)]
    _LIBRARY.dyconv_attend(sizes, *pointers, torch.get_num_threads())


def attend_gradient(
    sizes: Sizes, layers: Sequence[Tensor], results: Sequence[Tensor], to_attention: Tensor, gradients: Sequence[Tensor]
) -> None:
    """Write the gradients of weight and bias of the two layers and of each pixel, (B, C), from attention's."""
    scratch = to_attention.new_empty(sizes.images * (sizes.kernels + sizes.hidden))
    squeeze, _, excite, _ = layers
    pointers = [tensor.data_ptr() for tensor in (squeeze, excite, *results, to_attention, *gradients, scratch)]
    _LIBRARY.dyconv_attend_gradient(sizes, *pointers, torch.get_num_threads())


def evaluate(
    layer: Layer, sizes: Sizes | None, tensors: Sequence[Tensor], attention: Tensor | None, result: Tensor
) -> None:
    """Write what a layer makes of images by their attention to K kernels: all are contiguous in their format.

    `tensors` are images (B, ...), kernels (K, ...), and with the `sizes` of an attention branch weight and bias of its
    two layers, and the temperature. Without a branch, `attention` (B, K) is given.
    """
    pointers = [tensor.data_ptr() for tensor in tensors]
    if sizes is None:
        pointers += [None] * 5  # type: ignore[list-item]
    _LIBRARY.dyconv_evaluate(layer, sizes, *pointers, _pointer(attention), result.data_ptr(), torch.get_num_threads())


def can_mix(attention: Tensor, *rows: Tensor) -> bool:
    """Return True if the compiled kernels can mix these matrices, whose rows may be far apart, by `attention`."""
    if not can_read(attention, *rows) or attention.shape[1] > MOST_KERNELS or not attention.is_contiguous():
        return False
    return all(tensor.stride(-1) == 1 for tensor in rows)


def mix(attention: Tensor, weight: Tensor, mixed: Tensor) -> None:
    """Write to `mixed` (B, N) the mixtures of (K, N) kernels by (B, K) attention."""
    matrices = weight.data_ptr(), weight.stride(0), mixed.data_ptr(), mixed.stride(0)
    _LIBRARY.dyconv_mix(attention.data_ptr(), *matrices, *_sizes(attention, weight))


def add_gradients(attention: Tensor, weight: Tensor, grad: Tensor, to_attention: Tensor, to_weight: Tensor) -> None:
    """Add the share of `grad` (B, N) to the gradients of (B, K) attention, contiguous, and of (K, N) kernels."""
    inputs = attention.data_ptr(), weight.data_ptr(), weight.stride(0), grad.data_ptr(), grad.stride(0)
    sums = to_attention.data_ptr(), to_weight.data_ptr(), to_weight.stride(0)
    _LIBRARY.dyconv_add_gradients(*inputs, *sums, *_sizes(attention, weight))


def can_order(kernels: Tensor, taps: int) -> bool:
    """Return True if the compiled kernels can re-order these kernels, of so many taps."""
    return can_read(kernels) and kernels.is_contiguous() and taps <= _MOST_TAPS


def by_patch(weight: Tensor, ordered: Tensor, sizes: Sequence[int]) -> None:
    """Write (K, O, C, T) kernels to `ordered` as (K, T, C, O); `sizes` are K, O, C and T."""
    _LIBRARY.dyconv_by_patch(weight.data_ptr(), ordered.data_ptr(), *sizes, torch.get_num_threads())


def by_output(ordered: Tensor, weight: Tensor, sizes: Sequence[int]) -> None:
    """Write (K, T, C, O) kernels to `weight` as (K, O, C, T); `sizes` are K, O, C and T."""
    _LIBRARY.dyconv_by_output(ordered.data_ptr(), weight.data_ptr(), *sizes, torch.get_num_threads())


def flipped(ordered: Tensor, turned: Tensor, sizes: Sequence[int]) -> None:
    """Write (K, T, C, O) kernels to `turned` as (K, T, O, C), the last tap first; `sizes` are K, O, C and T."""
    _LIBRARY.dyconv_flipped(ordered.data_ptr(), turned.data_ptr(), *sizes, torch.get_num_threads())


def product(
    window: Window, source: Tensor, weight: Tensor, attention: Tensor, start: Tensor | None, result: Tensor
) -> None:
    """Write to `result` the products of the source's pixels, vectors of I, with each image's own mixture of matrices.

    `attention` is (B, K) and contiguous. Sums begin at `start` (B, J), contiguous, or at zero if that is None.
    """
    pointers = source.data_ptr(), weight.data_ptr(), attention.data_ptr(), _pointer(start), result.data_ptr()
    _LIBRARY.dyconv_product(window, *pointers, torch.get_num_threads())


def product_gradient(
    window: Window, sides: tuple[Tensor, Tensor], weight: Tensor, attention: Tensor, gradients: tuple[Tensor, Tensor]
) -> None:
    """Write the gradients of the kernels and of (B, K) attention, from the source and the gradient of the result."""
    sizes, threads = window.matrices, torch.get_num_threads()
    # -(-a // b) is a / b rounded up.
    tiles = sizes.taps * -(-sizes.rows // _HEIGHT)
    scratch = weight.new_empty(window.images * sizes.kernels * (threads * LANES + tiles))
    tensors = (*sides, weight, attention, *gradients, scratch)
    pointers = [tensor.data_ptr() for tensor in tensors]
    _LIBRARY.dyconv_product_gradient(window, *pointers, threads)


def panel_product(
    window: PanelWindow, source: Tensor, weight: Tensor, attention: Tensor, start: Tensor | None, result: Tensor
) -> None:
    """Write to `result` the convolution of the source, each image with its own mixture of kernels (K, O, C, h, w).

    `attention` is (B, K) and contiguous. Sums begin at `start` (B, channels of the result), contiguous, or at zero if
    that is None.
    """
    threads = torch.get_num_threads()
    scratch = weight.new_empty(_LIBRARY.dyconv_panel_scratch(window, False, threads))
    pointers = source.data_ptr(), weight.data_ptr(), attention.data_ptr(), _pointer(start), result.data_ptr()
    _LIBRARY.dyconv_panel_product(window, *pointers, scratch.data_ptr(), threads)


def panel_gradient(
    window: PanelWindow,
    sides: tuple[Tensor, Tensor],
    weight: Tensor,
    attention: Tensor,
    gradients: tuple[Tensor, Tensor],
) -> None:
    """Write the gradients of the kernels (K, O, C, h, w) and of (B, K) attention, from both sides of the window."""
    threads = torch.get_num_threads()
    scratch = weight.new_empty(_LIBRARY.dyconv_panel_scratch(window, True, threads))
    pointers = [tensor.data_ptr() for tensor in (*sides, weight, attention, *gradients, scratch)]
    _LIBRARY.dyconv_panel_gradient(window, *pointers, threads)


def _sizes(attention: Tensor, weight: Tensor) -> tuple[int, int, int, int]:
    return *attention.shape, weight.shape[1], torch.get_num_threads()


def _find_library() -> Any:
    # The build names the file after the interpreter; it is loaded as a library, not imported.
    for suffix in EXTENSION_SUFFIXES:
        path = Path(__file__).with_name(f"_native{suffix}")
        if path.exists():
            return _load(path)
    return None


def _load(path: Path) -> Any:
    try:
        library = ctypes.CDLL(str(path))
    except OSError:  # built for another system
        return None
    # The signatures of the C functions, in the order of their arguments; all of them return nothing.
    pointer, size, threads = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
    along = [ctypes.POINTER(Axis), ctypes.POINTER(Axis), size, size, threads]
    mixing = [pointer, pointer, size, pointer, size, size, size, size, threads]
    gradients = [pointer, pointer, size, pointer, size, pointer, pointer, size, size, size, size, threads]
    ordering = [pointer, pointer, size, size, size, size, threads]
    arguments = {
        "gather": [pointer] * 4 + along,
        "kernel_gradient": [pointer] * 3 + along,
        "mix": mixing,
        "add_gradients": gradients,
    }
    arguments |= {"by_patch": ordering, "by_output": ordering, "flipped": ordering}
    arguments["product"] = [ctypes.POINTER(Window)] + [pointer] * 5 + [threads]
    arguments["average"] = [pointer, pointer, size, size, size, size, threads]
    arguments["evaluate"] = [ctypes.POINTER(Layer), ctypes.POINTER(Sizes)] + [pointer] * 9 + [threads]
    arguments["attend"] = [ctypes.POINTER(Sizes)] + [pointer] * 8 + [threads]
    arguments["attend_gradient"] = [ctypes.POINTER(Sizes)] + [pointer] * 12 + [threads]
    arguments["product_gradient"] = [ctypes.POINTER(Window)] + [pointer] * 7 + [threads]
    arguments["panel_scratch"] = [ctypes.POINTER(PanelWindow), ctypes.c_int, threads]
    arguments["panel_product"] = [ctypes.POINTER(PanelWindow)] + [pointer] * 6 + [threads]
    arguments["panel_gradient"] = [ctypes.POINTER(PanelWindow)] + [pointer] * 7 + [threads]
    for name, types in arguments.items():
        function = getattr(library, f"dyconv_{name}", None)
        if function is None:  # built from older sources
            return None
        function.argtypes, function.restype = types, None
    library.dyconv_panel_scratch.restype = size
    return library


_LIBRARY = _find_library()
