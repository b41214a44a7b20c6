"""A tracking store in memory with the calls of MLflow's client that claims need, so that every order can be tried."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any


class FakeStore:
    """What all clients share. As in a data base each call is done whole, one after the other."""

    def __init__(self) -> None:
        self.runs: dict[str, Any] = {}
        self._ids = itertools.count()

    def next_id(self) -> str:
        """Returns an id that no run has yet; they are not in the order of their making, as in MLflow."""
        number = next(self._ids)
        return f"{(number * 7919) % 10007:05d}"


class FakeClient:
    """The client of one launch.

    Args:
        store: What it writes to.
        clock: The clock of its machine, in milliseconds.
        before: Called before each call with its name; may wait, or raise.
    """

    def __init__(
        self, store: FakeStore, clock: Callable[[], int] = lambda: 0, before: Callable[[str], None] = lambda name: None
    ) -> None:
        self._store, self._clock, self.before = store, clock, before

    def get_experiment_by_name(self, name: str) -> Any:
        """Returns the only experiment."""
        return SimpleNamespace(experiment_id="1", lifecycle_stage="active")

    def search_experiments(self, **more: Any) -> list[Any]:
        """Answers."""
        self.before("search_experiments")
        return []

    def search_runs(self, experiments: Sequence[str], query: str, **more: Any) -> Any:
        """Returns copies of the runs that are not deleted and match, the newest first."""
        self.before("search_runs")
        key = query.rpartition("= '")[2].rstrip("'") if "=" in query else None
        found = [run for run in self._store.runs.values() if key is None or run.data.tags["abl.fingerprint"] == key]
        found.sort(key=lambda run: -run.info.start_time)
        return _Page([_copy(run) for run in found if not run.is_deleted])

    def create_run(self, experiment: str, start_time: int | None, tags: Mapping[str, str], run_name: str) -> Any:
        """Opens a run."""
        self.before("create_run")
        start = start_time or self._clock()
        info = SimpleNamespace(run_id=self._store.next_id(), status="RUNNING", start_time=start, artifact_uri="")
        data = SimpleNamespace(tags=dict(tags), params={})
        run = SimpleNamespace(info=info, data=data, inputs=None, is_deleted=False)
        self._store.runs[info.run_id] = run
        return _copy(run)

    def log_batch(self, run_id: str, metrics: Sequence[Any], params: Sequence[Any], tags: Sequence[Any]) -> None:
        """Writes tags and params; metrics are of no interest here."""
        self.before("log_batch")
        data = self._store.runs[run_id].data
        data.tags.update({tag.key: tag.value for tag in tags})
        data.params.update({param.key: param.value for param in params})

    def log_inputs(self, run_id: str, datasets: Sequence[Any]) -> None:
        """Writes nothing."""
        self.before("log_inputs")

    def update_run(self, run_id: str, status: str) -> None:
        """Sets the status."""
        self.before("update_run")
        self._store.runs[run_id].info.status = status

    def set_terminated(self, run_id: str, status: str, end_time: int | None = None) -> None:
        """Sets the status."""
        self.update_run(run_id, status)

    def delete_run(self, run_id: str) -> None:
        """Deletes a run."""
        self.before("delete_run")
        self._store.runs[run_id].is_deleted = True


class _Page(list[Any]):
    token = None


def _copy(run: Any) -> Any:
    info, data = (
        SimpleNamespace(**vars(run.info)),
        SimpleNamespace(tags=dict(run.data.tags), params=dict(run.data.params)),
    )
    return SimpleNamespace(info=info, data=data, inputs=None)
