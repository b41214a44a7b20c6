"""Opens data sets in folders of image files, whichever of `ablations.datasets.folder_sets` it is.

Which files there are is listed by `ablations.folders`; batches are made by `runners.data.image_folder`.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from ablations.datasets import get_folder_set
from ablations.errors import DatasetError
from ablations.facts import DatasetFacts
from ablations.folders import Listing
from runners.data.sources import BatchSettings, BatchSource, SplitSizes


def open_folder_set(
    facts: DatasetFacts, settings: BatchSettings, *, root: Path | None, sizes: SplitSizes
) -> BatchSource:
    """Opens the folder set that `facts` name, below `root`.

    Raises:
        DatasetError: There is no root, or it is not laid out as the data set must be.
    """
    folder = get_folder_set(facts.name)
    if root is None:
        raise DatasetError(folder.needs_root)
    # torchvision takes a second to import, which data sets in memory do not need.
    from runners.data.image_folder import FolderSource

    listing = _list_once(facts.name, root.absolute())
    return FolderSource(facts, root, settings, sizes=sizes, listing=listing, resize_ratio=folder.resize_ratio)


@lru_cache(maxsize=1)
def _list_once(name: str, root: Path) -> Listing:
    # A worker runs many trials and evaluations on the same files.
    return get_folder_set(name).list_files(root)
