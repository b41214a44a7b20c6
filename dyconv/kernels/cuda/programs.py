"""This module holds the Triton programs: dynamic convolutions and their gradients, on channels-last images.

`launching` starts them; nobody else imports this module, as it needs Triton. Every program computes one tile of its
result, sums in float32, and masks what lies outside: no size needs to be a multiple of a tile. None depends on data and
none adds to memory that another program writes, so the results of two runs are the same bits.

A *transposed* convolution is the gradient of the images. Its result is cut into s t *phases* by the remainders of row
and column divided by the strides: all pixels of a phase meet the same taps, and none is multiplied with zeros in vain.
With a stride, dilated kernels are not computed here (`dense.computes`).

Dimensions: B images, K kernels, T kernel taps (h x w), C inner channels (those summed over), O outer ones.
"""

from typing import Any

import triton
import triton.language as tl

# Quoted where they annotate: Triton evaluates annotations, and refuses names that are not its own.
Pointer = Any
Size = Any


@triton.jit
def _taps_along(phase: "Size", taps: "Size", stride: "Size", padding: "Size", transposed: tl.constexpr) -> "Any":
    """Return the first tap along one axis that pixels of a phase meet, and the number of these taps."""
    first = 0
    count = taps
    if transposed:
        # Row y meets tap i where y + padding - i is a multiple of the stride.
        first = (phase + padding) % stride
        count = (taps - first + stride - 1) // stride
    return first, count


@triton.jit
def _source_along(
    position: "Size", tap: "Size", stride: "Size", padding: "Size", dilation: "Size", transposed: tl.constexpr
) -> "Any":
    """Return the source position that a result position meets by a tap; outside the source it meets padding."""
    if transposed:
        # Divisible, as the phase chose the taps.
        return (position + padding - tap * dilation) // stride
    return position * stride + tap * dilation - padding


@triton.jit
def mixed_product(  # noqa: PLR0917
    source: "Pointer",  # (B, rows, columns, C)
    kernels: "Pointer",  # (K, T, C, O), by the strides below
    attention: "Pointer",  # (B, K)
    result: "Pointer",  # (B, rows, columns, O)
    source_rows: "Size",
    source_columns: "Size",
    result_rows: "Size",
    result_columns: "Size",
    inner: "Size",
    outer: "Size",
    kernel_stride: "Size",
    tap_stride: "Size",
    inner_stride: "Size",
    outer_stride: "Size",
    num_kernels: tl.constexpr,
    taps_y: tl.constexpr,
    taps_x: tl.constexpr,
    stride_y: tl.constexpr,
    stride_x: tl.constexpr,
    padding_y: tl.constexpr,
    padding_x: tl.constexpr,
    dilation_y: tl.constexpr,
    dilation_x: tl.constexpr,
    transposed: tl.constexpr,
    block_pixels: tl.constexpr,
    block_inner: tl.constexpr,
    block_outer: tl.constexpr,
    precision: tl.constexpr,
) -> None:
    """Write a tile of pixels and outer channels of one image: its kernels are mixed tile by tile and multiplied.

    An implicit product: the patches are read where they lie, tap by tap. With one tap it is a product per image.
    """
    phases_y: tl.constexpr = stride_y if transposed else 1
    phases_x: tl.constexpr = stride_x if transposed else 1
    rows_in_phase = tl.cdiv(result_rows, phases_y)
    columns_in_phase = tl.cdiv(result_columns, phases_x)
    tiles_outer = tl.cdiv(outer, block_outer)
    tiles_pixels = tl.cdiv(rows_in_phase * columns_in_phase, block_pixels)

    # Tiles of outer channels vary fastest: programs that run together read the same pixels.
    program = tl.program_id(0)
    tile_outer = program % tiles_outer
    tile_pixels = (program // tiles_outer) % tiles_pixels
    rest = program // (tiles_outer * tiles_pixels)
    phase_x = rest % phases_x
    phase_y = (rest // phases_x) % phases_y
    image = rest // (phases_x * phases_y)
    # Numbers of all images together may exceed 32 bits.
    source += image.to(tl.int64) * source_rows * source_columns * inner
    result += image.to(tl.int64) * result_rows * result_columns * outer

    pixel = tile_pixels * block_pixels + tl.arange(0, block_pixels)
    row = (pixel // columns_in_phase) * phases_y + phase_y
    column = (pixel % columns_in_phase) * phases_x + phase_x
    is_result = (row < result_rows) & (column < result_columns)
    o = tile_outer * block_outer + tl.arange(0, block_outer)

    first_y, count_y = _taps_along(phase_y, taps_y, stride_y, padding_y, transposed)
    first_x, count_x = _taps_along(phase_x, taps_x, stride_x, padding_x, transposed)
    tiles_inner = tl.cdiv(inner, block_inner)
    sums = tl.zeros((block_pixels, block_outer), dtype=tl.float32)
    # One loop over taps and inner channels, so that loads of the next step run beside the product of this one.
    for step in range(count_y * count_x * tiles_inner):
        tap = step // tiles_inner
        i = first_y + (tap // count_x) * phases_y
        j = first_x + (tap % count_x) * phases_x
        c = (step % tiles_inner) * block_inner + tl.arange(0, block_inner)
        source_row = _source_along(row, i, stride_y, padding_y, dilation_y, transposed)
        source_column = _source_along(column, j, stride_x, padding_x, dilation_x, transposed)
        is_met = is_result & (source_row >= 0) & (source_row < source_rows)
        is_met = is_met & (source_column >= 0) & (source_column < source_columns)
        pixels = tl.load(
            source + (source_row * source_columns + source_column)[:, None] * inner + c[None, :],
            mask=is_met[:, None] & (c < inner)[None, :],
            other=0.0,
        )
        place = kernels + (i * taps_x + j) * tap_stride + c[:, None] * inner_stride + o[None, :] * outer_stride
        is_kernel = (c < inner)[:, None] & (o < outer)[None, :]
        mixture = tl.zeros((block_inner, block_outer), dtype=tl.float32)
        for k in tl.static_range(num_kernels):
            share = tl.load(attention + image * num_kernels + k).to(tl.float32)
            mixture += share * tl.load(place + k * kernel_stride, mask=is_kernel, other=0.0).to(tl.float32)
        sums = tl.dot(pixels, mixture.to(pixels.dtype), sums, input_precision=precision)
    tl.store(
        result + (row * result_columns + column)[:, None] * outer + o[None, :],
        sums.to(result.dtype.element_ty),
        mask=is_result[:, None] & (o < outer)[None, :],
    )


@triton.jit
def kernel_gradient(  # noqa: PLR0917
    source: "Pointer",  # (B, rows, columns, C)
    grad: "Pointer",  # (B, rows, columns, O)
    kernels: "Pointer",  # (K, T, C, O), by the strides below
    attention: "Pointer",  # (B, K)
    to_kernels: "Pointer",  # (splits, K, T, C, O), float32
    to_attention: "Pointer",  # (tiles, B, K), float32
    images: "Size",
    images_per_split: "Size",
    source_rows: "Size",
    source_columns: "Size",
    result_rows: "Size",
    result_columns: "Size",
    inner: "Size",
    outer: "Size",
    kernel_stride: "Size",
    tap_stride: "Size",
    inner_stride: "Size",
    outer_stride: "Size",
    num_kernels: tl.constexpr,
    lanes_kernels: tl.constexpr,
    taps_y: tl.constexpr,
    taps_x: tl.constexpr,
    stride_y: tl.constexpr,
    stride_x: tl.constexpr,
    padding_y: tl.constexpr,
    padding_x: tl.constexpr,
    dilation_y: tl.constexpr,
    dilation_x: tl.constexpr,
    block_pixels: tl.constexpr,
    block_inner: tl.constexpr,
    block_outer: tl.constexpr,
    precision: tl.constexpr,
) -> None:
    """Write a tile of the gradients of the K kernels, summed over some images, and its shares of attention's.

    The gradient of an image's mixture lives in registers alone: it is multiplied by attention into K sums, and by the
    K kernels into K numbers. `lanes_kernels` is K, rounded up to a power of two.
    """
    tiles_outer = tl.cdiv(outer, block_outer)
    tiles_inner = tl.cdiv(inner, block_inner)
    tiles = tiles_outer * tiles_inner * taps_y * taps_x
    program = tl.program_id(0)
    tile = program % tiles
    split = program // tiles
    tap = tile // (tiles_outer * tiles_inner)
    i = tap // taps_x
    j = tap % taps_x
    c = ((tile // tiles_outer) % tiles_inner) * block_inner + tl.arange(0, block_inner)
    o = (tile % tiles_outer) * block_outer + tl.arange(0, block_outer)
    k = tl.arange(0, lanes_kernels)
    is_kernel = (k < num_kernels)[:, None, None] & (c < inner)[None, :, None] & (o < outer)[None, None, :]
    place = (
        kernels
        + tap * tap_stride
        + k[:, None, None] * kernel_stride
        + c[None, :, None] * inner_stride
        + o[None, None, :] * outer_stride
    )
    sums = tl.zeros((lanes_kernels, block_inner, block_outer), dtype=tl.float32)
    # In 64 bits, as numbers of all images together may exceed 32.
    first = split.to(tl.int64) * images_per_split
    for image in range(first, tl.minimum(first + images_per_split, images)):
        image_source = source + image * source_rows * source_columns * inner
        image_grad = grad + image * result_rows * result_columns * outer
        to_mixture = tl.zeros((block_inner, block_outer), dtype=tl.float32)
        for start in range(0, result_rows * result_columns, block_pixels):
            pixel = start + tl.arange(0, block_pixels)
            row = pixel // result_columns
            source_row = _source_along(row, i, stride_y, padding_y, dilation_y, False)
            source_column = _source_along(pixel % result_columns, j, stride_x, padding_x, dilation_x, False)
            is_result = row < result_rows
            is_met = is_result & (source_row >= 0) & (source_row < source_rows)
            is_met = is_met & (source_column >= 0) & (source_column < source_columns)
            pixels = tl.load(
                image_source + (source_row * source_columns + source_column)[None, :] * inner + c[:, None],
                mask=is_met[None, :] & (c < inner)[:, None],
                other=0.0,
            )
            grads = tl.load(
                image_grad + pixel[:, None] * outer + o[None, :],
                mask=is_result[:, None] & (o < outer)[None, :],
                other=0.0,
            )
            to_mixture = tl.dot(pixels, grads, to_mixture, input_precision=precision)
        shares = tl.load(attention + image * num_kernels + k, mask=k < num_kernels, other=0.0).to(tl.float32)
        sums += shares[:, None, None] * to_mixture[None, :, :]
        shared = tl.load(place, mask=is_kernel, other=0.0).to(tl.float32)
        products = tl.sum(tl.sum(shared * to_mixture[None, :, :], 2), 1)
        tl.store(to_attention + (tile * images + image) * num_kernels + k, products, mask=k < num_kernels)
    numbers = taps_y * taps_x * inner * outer
    target = to_kernels + split.to(tl.int64) * num_kernels * numbers + tap * inner * outer
    target = target + k[:, None, None] * numbers + c[None, :, None] * outer + o[None, None, :]
    tl.store(target, sums, mask=is_kernel)


@triton.jit
def depthwise(  # noqa: PLR0917
    source: "Pointer",  # (B, rows, columns, C)
    kernels: "Pointer",  # (K, T, C), or (B, T, C) unless `mixed`
    attention: "Pointer",  # (B, K)
    result: "Pointer",  # (B, rows, columns, C)
    source_rows: "Size",
    source_columns: "Size",
    result_rows: "Size",
    result_columns: "Size",
    channels: "Size",
    mixed: tl.constexpr,
    num_kernels: tl.constexpr,
    taps_y: tl.constexpr,
    taps_x: tl.constexpr,
    stride_y: tl.constexpr,
    stride_x: tl.constexpr,
    padding_y: tl.constexpr,
    padding_x: tl.constexpr,
    dilation_y: tl.constexpr,
    dilation_x: tl.constexpr,
    transposed: tl.constexpr,
    block_pixels: tl.constexpr,
    block_channels: tl.constexpr,
) -> None:
    """Write a tile of pixels and channels of one image: the sum over taps of pixels times a mixed kernel."""
    phases_y: tl.constexpr = stride_y if transposed else 1
    phases_x: tl.constexpr = stride_x if transposed else 1
    rows_in_phase = tl.cdiv(result_rows, phases_y)
    columns_in_phase = tl.cdiv(result_columns, phases_x)
    tiles_channels = tl.cdiv(channels, block_channels)
    tiles_pixels = tl.cdiv(rows_in_phase * columns_in_phase, block_pixels)

    program = tl.program_id(0)
    tile_channels = program % tiles_channels
    tile_pixels = (program // tiles_channels) % tiles_pixels
    rest = program // (tiles_channels * tiles_pixels)
    phase_x = rest % phases_x
    phase_y = (rest // phases_x) % phases_y
    image = rest // (phases_x * phases_y)
    source += image.to(tl.int64) * source_rows * source_columns * channels
    result += image.to(tl.int64) * result_rows * result_columns * channels

    pixel = tile_pixels * block_pixels + tl.arange(0, block_pixels)
    row = (pixel // columns_in_phase) * phases_y + phase_y
    column = (pixel % columns_in_phase) * phases_x + phase_x
    is_result = (row < result_rows) & (column < result_columns)
    c = tile_channels * block_channels + tl.arange(0, block_channels)
    is_channel = c < channels
    numbers = taps_y * taps_x * channels
    if not mixed:
        kernels += image.to(tl.int64) * numbers

    first_y, count_y = _taps_along(phase_y, taps_y, stride_y, padding_y, transposed)
    first_x, count_x = _taps_along(phase_x, taps_x, stride_x, padding_x, transposed)
    sums = tl.zeros((block_pixels, block_channels), dtype=tl.float32)
    for tap in range(count_y * count_x):
        i = first_y + (tap // count_x) * phases_y
        j = first_x + (tap % count_x) * phases_x
        place = kernels + (i * taps_x + j) * channels + c
        if mixed:
            kernel = tl.zeros((block_channels,), dtype=tl.float32)
            for k in tl.static_range(num_kernels):
                share = tl.load(attention + image * num_kernels + k).to(tl.float32)
                kernel += share * tl.load(place + k * numbers, mask=is_channel, other=0.0).to(tl.float32)
        else:
            kernel = tl.load(place, mask=is_channel, other=0.0).to(tl.float32)
        source_row = _source_along(row, i, stride_y, padding_y, dilation_y, transposed)
        source_column = _source_along(column, j, stride_x, padding_x, dilation_x, transposed)
        is_met = is_result & (source_row >= 0) & (source_row < source_rows)
        is_met = is_met & (source_column >= 0) & (source_column < source_columns)
        pixels = tl.load(
            source + (source_row * source_columns + source_column)[:, None] * channels + c[None, :],
            mask=is_met[:, None] & is_channel[None, :],
            other=0.0,
        )
        sums += pixels.to(tl.float32) * kernel[None, :]
    tl.store(
        result + (row * result_columns + column)[:, None] * channels + c[None, :],
        sums.to(result.dtype.element_ty),
        mask=is_result[:, None] & is_channel[None, :],
    )


@triton.jit
def depthwise_kernel_gradient(  # noqa: PLR0917
    source: "Pointer",  # (B, rows, columns, C)
    grad: "Pointer",  # (B, rows, columns, C)
    to_kernels: "Pointer",  # (B, T, C), float32
    source_rows: "Size",
    source_columns: "Size",
    result_rows: "Size",
    result_columns: "Size",
    channels: "Size",
    taps_y: tl.constexpr,
    taps_x: tl.constexpr,
    stride_y: tl.constexpr,
    stride_x: tl.constexpr,
    padding_y: tl.constexpr,
    padding_x: tl.constexpr,
    dilation_y: tl.constexpr,
    dilation_x: tl.constexpr,
    block_pixels: tl.constexpr,
    block_channels: tl.constexpr,
) -> None:
    """Write the gradient of one image's kernel at one tap, for a tile of channels: a sum over pixels."""
    taps: tl.constexpr = taps_y * taps_x
    tiles_channels = tl.cdiv(channels, block_channels)
    # Taps vary fastest: the programs of one image read the same pixels at about the same time.
    program = tl.program_id(0)
    tap = program % taps
    c = ((program // taps) % tiles_channels) * block_channels + tl.arange(0, block_channels)
    image = program // (taps * tiles_channels)
    is_channel = c < channels
    source += image.to(tl.int64) * source_rows * source_columns * channels
    grad += image.to(tl.int64) * result_rows * result_columns * channels
    sums = tl.zeros((block_pixels, block_channels), dtype=tl.float32)
    for start in range(0, result_rows * result_columns, block_pixels):
        pixel = start + tl.arange(0, block_pixels)
        row = pixel // result_columns
        source_row = _source_along(row, tap // taps_x, stride_y, padding_y, dilation_y, False)
        source_column = _source_along(pixel % result_columns, tap % taps_x, stride_x, padding_x, dilation_x, False)
        is_met = (row < result_rows) & (source_row >= 0) & (source_row < source_rows)
        is_met = is_met & (source_column >= 0) & (source_column < source_columns)
        is_read = is_met[:, None] & is_channel[None, :]
        place = (source_row * source_columns + source_column)[:, None] * channels + c[None, :]
        pixels = tl.load(source + place, mask=is_read, other=0.0).to(tl.float32)
        grads = tl.load(grad + pixel[:, None] * channels + c[None, :], mask=is_read, other=0.0).to(tl.float32)
        sums += pixels * grads
    target = to_kernels + (image * taps + tap).to(tl.int64) * channels + c
    tl.store(target, tl.sum(sums, 0), mask=is_channel)
