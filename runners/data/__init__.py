"""This package reads data sets and makes their splits and batches.

A trial calls `open_batches(...)` and takes `.training(epoch, start_step)` and `.evaluation(split)` of the `BatchSource`
that it returns. The functions below it are public for tests, notebooks and own data sets. All that is known without
reading a file is in `ablations.datasets`.
"""

from runners.data.batches import Batch, evaluation_batches, steps_per_epoch, training_batches
from runners.data.readers import cifar, digits, fashion_mnist, fashion_mnist_mini
from runners.data.registry import load_dataset, open_batches, register_loader, register_source
from runners.data.sources import BatchSettings, BatchSource, MemorySource, SplitSizes
from runners.data.splits import (
    Dataset,
    Normalization,
    Split,
    SplitName,
    channel_statistics,
    content_digest,
    hold_out,
    make_dataset,
    subset,
)
from runners.data.transforms import Augmentation

__all__ = [
    "Augmentation",
    "Batch",
    "BatchSettings",
    "BatchSource",
    "Dataset",
    "MemorySource",
    "Normalization",
    "Split",
    "SplitName",
    "SplitSizes",
    "channel_statistics",
    "cifar",
    "content_digest",
    "digits",
    "evaluation_batches",
    "fashion_mnist",
    "fashion_mnist_mini",
    "hold_out",
    "load_dataset",
    "make_dataset",
    "open_batches",
    "register_loader",
    "register_source",
    "steps_per_epoch",
    "subset",
    "training_batches",
]
