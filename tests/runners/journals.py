"""Reads the journals of proposals."""

from __future__ import annotations

from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend


def open_journal(journal: Path, group: str) -> optuna.Study:
    """Return the Optuna study of a group."""
    return optuna.load_study(study_name=group, storage=JournalStorage(JournalFileBackend(str(journal))))
