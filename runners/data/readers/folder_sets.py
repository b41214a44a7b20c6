"""Opens data sets in folders of image files, whichever of `ablations.datasets.folder_sets` it is.

Which files there are and what they hold is read by `ablations.datasets.folder_contents`; batches are made by
`runners.data.readers.image_folder`.
"""

from __future__ import annotations

from pathlib import Path

from ablations.datasets.facts import DatasetFacts
from ablations.datasets.registry import folder_content, get_folder_set
from ablations.errors import DatasetError
from runners.data.sources import BatchSettings, BatchSource, SplitSizes


def open_folder_set(
    facts: DatasetFacts, settings: BatchSettings, *, root: Path | None, sizes: SplitSizes
) -> BatchSource:
    """Opens the folder set that `facts` name, below `root`.

    Raises:
        DatasetError: There is no root, or it is not laid out as the data set must be, or its files have changed.
    """
    folder = get_folder_set(facts.name)
    if root is None:
        raise DatasetError(folder.needs_root)
    # torchvision takes a second to import, which data sets in memory do not need.
    from runners.data.readers.image_folder import FolderSource

    content = folder_content(folder, root)
    return FolderSource(facts, root, settings, sizes=sizes, content=content, resize_ratio=folder.resize_ratio)
