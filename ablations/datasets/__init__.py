"""This package holds the registry of data sets and the facts of each that plans, fingerprints and reports need.

It lists and digests the files of data sets in folders. `runners.data` opens them for training. No torch is needed.
"""

from ablations.datasets.builtin import Expected, FolderSet
from ablations.datasets.facts import DatasetFacts
from ablations.datasets.registry import register_dataset, register_folder_set

__all__ = ["DatasetFacts", "Expected", "FolderSet", "register_dataset", "register_folder_set"]
