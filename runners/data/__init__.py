"""Data sets, their splits and their batches; what can be known without reading a file is in `ablations.datasets`.

A trial opens `open_batches(...)` and asks the `BatchSource` for `.training(epoch, start_step)` and
`.evaluation(split)`. The functions below it are public for tests, notebooks and own data sets.
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
