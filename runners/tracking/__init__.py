"""This package alone writes to MLflow: the store itself, the runs of nodes and groups, the summaries of studies.

`runners.sync` decides when a node is written; reading for reports is not done here.
"""

from runners.tracking.store import prepare_store
from runners.tracking.summaries import write_study_summary
from runners.tracking.sync_notes import unsynced
from runners.tracking.tracker import Tracker

__all__ = ["Tracker", "prepare_store", "unsynced", "write_study_summary"]
