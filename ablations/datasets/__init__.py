"""This package holds the registry of data sets and the facts of each that plans, fingerprints and reports need.

It lists and digests the files of data sets in folders. `runners.data` opens them for training. No torch is needed.
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
