"""Data sets as data: what can be known of one without reading its images, and its registry.

The files of those in folders are listed and digested here. Opening them for training is the business of `runners.data`;
nothing here needs torch.
"""

from ablations.datasets.builtin import (
    Expected,
    FolderSet,
)
from ablations.datasets.facts import (
    DatasetFacts,
)
from ablations.datasets.registry import (
    BUILT_IN,
    DATASETS,
    FOLDERS,
    ContentDigest,
    available_datasets,
    downloadable,
    facts_of,
    folder_content,
    folder_sets,
    forget_folders,
    get_dataset_facts,
    get_folder_set,
    register_content,
    register_dataset,
    register_folder_set,
    registered_facts,
)

__all__ = [
    "BUILT_IN",
    "ContentDigest",
    "DATASETS",
    "DatasetFacts",
    "Expected",
    "FOLDERS",
    "FolderSet",
    "available_datasets",
    "downloadable",
    "facts_of",
    "folder_content",
    "folder_sets",
    "forget_folders",
    "get_dataset_facts",
    "get_folder_set",
    "register_content",
    "register_dataset",
    "register_folder_set",
    "registered_facts",
]
