"""Batches in memory: a per-image loop as oracle, purity in (seed, epoch, step), sizes, and untouched generators."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ablations.errors import SpecError
from runners.data import (
    Augmentation,
    Batch,
    Normalization,
    Split,
    evaluation_batches,
    steps_per_epoch,
    training_batches,
)
from runners.data.batches import Transfer, evaluation_slices
from runners.data.transforms import augment, crop

PLAIN = Normalization(torch.zeros(1), torch.full((1,), 1 / 255))
"""Leaves pixel values as they are."""

BOTH = Augmentation(crop_padding=2, flip=True)


def train(split: Split, batch_size: int = 4, *, seed: int = 0, epoch: int = 0, **options: object) -> list[Batch]:
    settings: dict[str, object] = {"normalization": PLAIN, "augmentation": BOTH} | options
    return list(training_batches(split, batch_size, seed=seed, epoch=epoch, **settings))  # type: ignore[arg-type]


def numbered(count: int, size: int = 5) -> Split:
    """Images that tell which they are (in every pixel but the first column) and which way round."""
    images = torch.arange(1, count + 1, dtype=torch.uint8).view(-1, 1, 1, 1).repeat(1, 1, size, size)
    images[..., 0] = 255
    return Split(images, torch.arange(count))


def same(first: list[Batch], second: list[Batch]) -> bool:
    pairs = zip(first, second, strict=True)
    return all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in pairs)


def loop_crop(pixels: np.ndarray, padding: int, top: list[int], left: list[int]) -> np.ndarray:
    result = np.zeros_like(pixels)
    _, channels, height, width = pixels.shape
    for i, image in enumerate(pixels):
        for c in range(channels):
            for y in range(height):
                for x in range(width):
                    row, column = y + top[i] - padding, x + left[i] - padding
                    if 0 <= row < height and 0 <= column < width:
                        result[i, c, y, x] = image[c, row, column]
    return result


@pytest.mark.parametrize(("shape", "padding"), [((5, 1, 6, 6), 2), ((4, 3, 4, 7), 1), ((2, 2, 3, 3), 4)])
def test_crop_is_a_loop_over_pixels(shape: tuple[int, ...], padding: int) -> None:
    generator = np.random.default_rng(0)
    pixels = generator.integers(1, 256, shape, dtype=np.uint8)
    top, left = generator.integers(0, 2 * padding + 1, (2, shape[0]))
    expected = loop_crop(pixels, padding, top.tolist(), left.tolist())
    np.testing.assert_array_equal(crop(pixels, padding, top, left), expected)


def possible_views(image: Tensor, padding: int) -> dict[tuple[int, int, bool], bytes]:
    pixels, side = image[None].numpy(), range(2 * padding + 1)
    views = {}
    for top in side:
        for left in side:
            cut = loop_crop(pixels, padding, [top], [left])
            views[top, left, False], views[top, left, True] = cut.tobytes(), np.flip(cut, -1).tobytes()
    return views


def test_every_image_is_one_of_its_crops_and_flips_and_all_of_them_occur(make_split: Callable[..., Split]) -> None:
    split = make_split(300, size=5)
    batches = train(split, 100, augmentation=Augmentation(crop_padding=1, flip=True))
    order = [int(i) for _, labels in train(Split(split.images, torch.arange(300)), 100) for i in labels]
    images = torch.cat([images for images, _ in batches]).to(torch.uint8)
    drawn: Counter[tuple[int, int, bool]] = Counter()
    for index, image in zip(order, images, strict=True):
        views = possible_views(split.images[index], 1)
        (found,) = [name for name, view in views.items() if view == image.numpy().tobytes()]
        drawn[found] += 1
    assert len(drawn) == 18
    # 300 draws of a fair coin have standard deviation 8.7.
    assert abs(sum(count for (_, _, flipped), count in drawn.items() if flipped) - 150) < 44


def test_without_augmentation_images_are_themselves(make_split: Callable[..., Split]) -> None:
    split = make_split(8)
    images, _ = train(split, 8, augmentation=None)[0]
    assert {row.numpy().tobytes() for row in images.to(torch.uint8)} == {row.numpy().tobytes() for row in split.images}


def test_normalization_is_the_formula(make_split: Callable[..., Split]) -> None:
    split = make_split(6, channels=3)
    mean, std = torch.tensor([0.1, 0.5, 0.9]), torch.tensor([0.2, 0.3, 0.4])
    images, _ = next(evaluation_batches(split, 6, normalization=Normalization(mean, std)))
    plain, _ = next(evaluation_batches(split, 6, normalization=PLAIN))
    expected = (plain / 255 - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)
    torch.testing.assert_close(images, expected)
    assert images.dtype == torch.float32


def test_source_images_are_never_changed(make_split: Callable[..., Split]) -> None:
    split = make_split(20)
    before = split.images.clone()
    train(split, 20)
    train(split, 20, augmentation=Augmentation(flip=True))
    list(evaluation_batches(split, 8, normalization=PLAIN))
    assert torch.equal(split.images, before)


@pytest.mark.parametrize("padding", [0, 1])
def test_augmenting_leaves_its_input(make_split: Callable[..., Split], padding: int) -> None:
    images = make_split(20).images
    before = images.clone()
    changed = augment(images, Augmentation(crop_padding=padding, flip=True), key=1, image_index=np.arange(20))
    assert torch.equal(images, before)
    assert not torch.equal(changed, before)


@given(start=st.integers(0, 5), seed=st.integers(0, 9), epoch=st.integers(0, 9))
def test_a_resumed_epoch_has_the_same_batches(start: int, seed: int, epoch: int) -> None:
    split = numbered(23)
    whole = train(split, seed=seed, epoch=epoch)
    assert len(whole) == 5
    assert same(train(split, seed=seed, epoch=epoch, start_step=start), whole[start:])


def test_seed_and_epoch_change_order_and_augmentation() -> None:
    split = numbered(40)
    reference = train(split, 40)[0]
    for other in (train(split, 40, seed=1)[0], train(split, 40, epoch=1)[0]):
        assert not torch.equal(reference[1], other[1])
        in_order = [images[labels.argsort()] for images, labels in (reference, other)]
        assert not torch.equal(*in_order)


def test_augmentation_does_not_depend_on_the_batch() -> None:
    split = numbered(24)
    small, large = (torch.cat([images for images, _ in train(split, size)]) for size in (2, 12))
    assert torch.equal(small, large)


def test_an_epoch_visits_no_image_twice_and_leaves_others_out_each_time() -> None:
    split = numbered(23)
    seen = [set(torch.cat([labels for _, labels in train(split, epoch=e)]).tolist()) for e in range(30)]
    assert all(len(labels) == 20 for labels in seen)
    assert set.union(*seen) == set(range(23))
    assert len({frozenset(labels) for labels in seen}) > 20


def test_steps_per_epoch_drops_the_short_batch() -> None:
    assert [steps_per_epoch(n, 4) for n in (4, 7, 8, 9)] == [1, 1, 2, 2]


@pytest.mark.parametrize(("count", "size", "message"), [(3, 4, "3 training images do not fill"), (3, 0, "at least 1")])
def test_a_batch_size_that_cannot_be_is_refused_before_the_first_batch(count: int, size: int, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        training_batches(numbered(count), size, seed=0, epoch=0, normalization=PLAIN)


@pytest.mark.parametrize("start", [-1, 6])
def test_a_start_beyond_the_epoch_is_refused(start: int) -> None:
    with pytest.raises(ValueError, match="start_step must be from 0 to 5"):
        train(numbered(23), start_step=start)


def test_a_negative_padding_is_refused() -> None:
    with pytest.raises(SpecError, match="-1"):
        Augmentation(crop_padding=-1)


@given(count=st.integers(1, 60), size=st.integers(2, 17))
def test_evaluation_batches_cover_everything_and_none_has_one_image(count: int, size: int) -> None:
    slices = evaluation_slices(count, size)
    assert [i for part in slices for i in range(count)[part]] == list(range(count))
    lengths = [part.stop - part.start for part in slices]
    assert min(lengths) >= min(2, count)
    assert lengths[:-1] == [size] * (len(slices) - 1)
    assert lengths[-1] <= size + 1


def test_an_evaluation_visits_every_image_once_in_a_fixed_mixed_order() -> None:
    split = Split(numbered(200).images, torch.arange(200) // 20)
    labels = torch.cat([labels for _, labels in evaluation_batches(split, 33, normalization=PLAIN)])
    again = torch.cat([labels for _, labels in evaluation_batches(split, 50, normalization=PLAIN)])
    assert torch.equal(labels, again)
    assert labels.bincount().tolist() == [20] * 10
    neighbours_alike = (labels[1:] == labels[:-1]).sum().item()
    assert neighbours_alike < 50  # about 19 in a random order, 190 in that of the split


def test_evaluation_in_batches_of_one_is_refused() -> None:
    with pytest.raises(SpecError, match="at least 2"):
        evaluation_batches(numbered(5), 1, normalization=PLAIN)


def test_no_global_generator_is_read_or_moved() -> None:
    split = numbered(23)

    def all_batches() -> Iterator[Batch]:
        yield from train(split)
        yield from evaluation_batches(split, 4, normalization=PLAIN)

    reference = list(all_batches())
    torch.manual_seed(99)
    np.random.seed(99)
    random.seed(99)
    before = torch.get_rng_state(), np.random.get_state(legacy=False)["state"]["key"].tolist(), random.getstate()
    assert same(list(all_batches()), reference)
    after = torch.get_rng_state(), np.random.get_state(legacy=False)["state"]["key"].tolist(), random.getstate()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


def test_memory_format_is_the_one_asked_for(make_split: Callable[..., Split]) -> None:
    split = make_split(8, channels=3)
    last = train(split, 8, memory_format=torch.channels_last, normalization=PLAIN)[0][0]
    first = train(split, 8)[0][0]
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert first.is_contiguous()
    assert torch.equal(first, last)


def test_batches_go_to_the_device_asked_for() -> None:
    images, labels = train(numbered(4), device=torch.device("meta"))[0]
    assert (images.device.type, labels.device.type) == ("meta", "meta")


def test_a_gpu_copies_in_a_stream_of_its_own_which_the_step_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of what is asked of the streams; no GPU is needed to write it down."""
    asked: list[str] = []

    class Recorded:
        def __init__(self, name: str) -> None:
            self.name = name

        def wait_stream(self, other: Recorded) -> None:
            asked.append(f"{self.name} waits for {other.name}")

        def __enter__(self) -> None:
            asked.append(f"enter {self.name}")

        def __exit__(self, *error: object) -> None:
            asked.append(f"leave {self.name}")

    computing = Recorded("computing")
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Recorded("copying"))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: computing)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream)
    monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: asked.append("pin") or tensor)
    monkeypatch.setattr(Tensor, "record_stream", lambda tensor, stream: asked.append(f"kept for {stream.name}"))
    move = Tensor.to

    def moved(tensor: Tensor, *arguments: object, **options: object) -> Tensor:
        if arguments and isinstance(arguments[0], torch.device) and arguments[0].type == "cuda":
            asked.append(f"copy, non_blocking={options.get('non_blocking', False)}")
            return tensor.clone()
        return move(tensor, *arguments, **options)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(Tensor, "to", moved)
    transfer = Transfer(PLAIN, torch.device("cuda"), torch.contiguous_format)
    assert asked == ["copy, non_blocking=False"] * 2 + ["copying waits for computing"]
    asked.clear()
    images, labels = transfer(torch.full((2, 1, 3, 3), 7, dtype=torch.uint8), torch.arange(2))
    assert asked == [
        "pin", "pin", "enter copying", "copy, non_blocking=True", "copy, non_blocking=True", "leave copying",
        "computing waits for copying", "kept for computing", "kept for computing",
    ]  # fmt: skip
    assert torch.equal(images, torch.full((2, 1, 3, 3), 7.0))
    assert torch.equal(labels, torch.arange(2))
