"""This module draws random numbers without state: each is a hash of a key and a counter.

Splits, epoch orders and augmentation draw from here, so each number is a function of its names, such as (seed, epoch,
image), and depends on no generator's history, thread or library version. It reads no files. Not for cryptography.
Legend: N counters.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from runners.seeding import derive_key

UInt64Array = npt.NDArray[np.uint64]
Int64Array = npt.NDArray[np.int64]

# The constants of SplitMix64: 2^64 divided by the golden ratio, and the two factors of its finaliser.
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def random_bits(key: int, counters: npt.ArrayLike) -> UInt64Array:
    """Return 64 random bits for each counter.

    Source: the output function of SplitMix64 (Steele, Lea and Flood, 2014), started at `key`.

    Args:
        key: A key from `derive_key`.
        counters: (N,) integers from 0.

    Returns:
        (N,) unsigned 64-bit integers.
    """
    state = (np.asarray(counters).astype(np.uint64) + np.uint64(1)) * _GOLDEN + np.uint64(key)
    state = (state ^ (state >> np.uint64(30))) * _MIX_1
    state = (state ^ (state >> np.uint64(27))) * _MIX_2
    return np.asarray(state ^ (state >> np.uint64(31)), dtype=np.uint64)


def random_integers(key: int, counters: npt.ArrayLike, high: int) -> Int64Array:
    """Return a uniform integer in [0, `high`) for each counter, `high` at most 2**31; shape (N,)."""
    # The upper 32 bits as a fraction times `high`: no modulo, and no overflow with `high` up to 2**31.
    bits = random_bits(key, counters) >> np.uint64(32)
    return ((bits * np.uint64(high)) >> np.uint64(32)).astype(np.int64)


def permutation(key: int, count: int) -> Int64Array:
    """Return a random permutation of 0 to `count - 1`, shape (count,)."""
    return np.argsort(random_bits(key, np.arange(count)), kind="stable")


def balanced_choice(labels: npt.NDArray[np.integer], count: int, key: int, num_classes: int) -> Int64Array:
    """Choose `count` positions, with numbers per class as equal as the images allow.

    Within a class the choice is random. Where `count` is no multiple of the number of classes, random classes give
    one image more; a class that is too small gives all it has and the others give more. With one key, a smaller
    choice is a subset of a larger one.

    Args:
        labels: (N,) class of each image, 0 to `num_classes - 1`.
        count: Number of images to choose, 0 to N.

    Returns:
        (count,) positions, ascending.
    """
    labels = np.asarray(labels, dtype=np.int64)
    # Random order within each class, then each image's rank in its class; the lowest ranks are chosen, so that a
    # smaller choice with this key is a subset of a larger one.
    by_class = np.lexsort((random_bits(key, np.arange(len(labels))), labels))
    sizes = np.bincount(labels, minlength=num_classes)
    starts = np.cumsum(sizes) - sizes
    rank = np.arange(len(labels)) - starts[labels[by_class]]
    class_rank = np.argsort(permutation(derive_key(key, "class order"), len(sizes)))[labels[by_class]]
    return np.sort(by_class[np.lexsort((class_rank, rank))[:count]])
