"""ImageNet-1k from the user's folder; its licence allows neither embedding nor downloading it.

Source: Russakovsky and others, 2015, arXiv:1409.0575; the usual folder layout of torchvision's `ImageFolder`.
"""

from __future__ import annotations

from pathlib import Path

from ablations.datasets import DatasetFacts
from ablations.errors import DatasetError
from runners.data.registry import register_source
from runners.data.sources import BatchSettings, BatchSource, SplitSizes


@register_source("imagenet")
def open_imagenet(facts: DatasetFacts, settings: BatchSettings, *, root: Path | None, sizes: SplitSizes) -> BatchSource:
    """Opens ImageNet below `root`, which holds `train/<class>/` and `val/<class>/`.

    Raises:
        DatasetError: There is no root, or it does not hold the 1,000 classes.
    """
    if root is None:
        raise DatasetError(
            "ImageNet needs data.root: the folder that holds train/<class>/*.JPEG and val/<class>/*.JPEG. It "
            "cannot be downloaded for you; access is asked for at https://image-net.org/download"
        )
    # torchvision takes a second to import, which no other data set needs.
    from runners.data.image_folder import FolderSource

    return FolderSource(facts, root, settings, sizes=sizes)
