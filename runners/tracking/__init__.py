"""The only writer to MLflow: the store, the runs of nodes, claims of several machines, the summaries of studies."""

from runners.tracking.store import prepare_store
from runners.tracking.summaries import write_study_summary
from runners.tracking.sync_notes import unsynced
from runners.tracking.tracker import Tracker

__all__ = ["Tracker", "prepare_store", "unsynced", "write_study_summary"]
