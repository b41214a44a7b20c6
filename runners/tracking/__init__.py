"""The only writer to MLflow: the store, the runs of nodes, claims of several machines, the summaries of studies."""

from runners.tracking.nodes import Tracker
from runners.tracking.notes import unsynced
from runners.tracking.store import prepare_store
from runners.tracking.studies import write_study_summary

__all__ = ["Tracker", "prepare_store", "unsynced", "write_study_summary"]
