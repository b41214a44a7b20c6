"""Brings the state folders of nodes into the tracking store, in batches, each line once.

A worker never talks to MLflow; it writes events to its state folder, and the launcher follows. What was brought over
is kept per store in the node's `tracking.json`, so that another store, or one that was away, gets everything later.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ablations import vocabulary as names
from ablations.fingerprint import canonical_json
from ablations.naming import placement_title
from ablations.planning import EvaluationNode, Node
from ablations.settings import flatten
from ablations.spec import Placement, TrialSpec
from runners.files import exclusively, read_json, write_json
from runners.provenance import Commit
from runners.state import NodeState

_METRICS_PER_CALL = 1000
_ENTITIES_PER_CALL = 100


class Tracker:
    """Writes the runs of one preset and data set to one store.

    Args:
        uri: The tracking store; `prepare_store` must have seen it.
        experiment: Name of the MLflow experiment.
        artifacts: Where a local store keeps artifacts; a server decides for itself.
        commit: The code's commit, for the tags.
        preset: The preset, for the tags.
    """

    def __init__(self, uri: str, experiment: str, artifacts: Path, *, commit: Commit, preset: str) -> None:
        from mlflow import MlflowClient

        self.uri, self.preset, self.commit = uri, preset, commit
        self._key = hashlib.sha256(uri.encode()).hexdigest()[:16]
        self.client = MlflowClient(tracking_uri=uri)
        self.experiment_id = self._experiment(experiment, artifacts)
        self._known = self._search_nodes()

    def _experiment(self, name: str, artifacts: Path) -> str:
        found = self.client.get_experiment_by_name(name)
        if found is not None:
            if found.lifecycle_stage == "deleted":
                self.client.restore_experiment(found.experiment_id)
            return str(found.experiment_id)
        remote = self.uri.startswith(("http://", "https://", "databricks"))
        from mlflow.exceptions import MlflowException

        location = None if remote else (artifacts.resolve() / names.slug(name)).as_uri()
        try:
            return str(self.client.create_experiment(name, artifact_location=location))
        except MlflowException:
            # Another launch may have created it just now.
            found = self.client.get_experiment_by_name(name)
            if found is None:
                raise
            return str(found.experiment_id)

    def search(self, filter_string: str) -> Iterator[Any]:
        """Yields the experiment's runs that match, the newest first."""
        token: str | None = None
        while True:
            page = self.client.search_runs(
                [self.experiment_id], filter_string, order_by=["attributes.start_time DESC"], page_token=token
            )
            yield from page
            token = page.token
            if not token:
                return

    def _search_nodes(self) -> dict[str, Any]:
        """Returns the newest run of each fingerprint in the experiment, finished ones before others."""
        known: dict[str, Any] = {}
        for run in self.search(f"tags.`{names.TAG_FINGERPRINT}` LIKE '%'"):
            fingerprint = run.data.tags.get(names.TAG_FINGERPRINT, "")
            if names.TAG_SUPERSEDED in run.data.tags:
                continue
            if fingerprint not in known or (
                run.info.status == "FINISHED" and known[fingerprint].info.status != "FINISHED"
            ):
                known[fingerprint] = run
        return known

    def create_run(
        self, title: str, tags: Mapping[str, str], params: Mapping[str, Any], *, began: float | None = None
    ) -> str:
        """Opens a run with its tags and params and returns its id; `began` is when, in seconds since the epoch."""
        start = int(began * 1000) if began is not None else None
        run = self.client.create_run(self.experiment_id, start_time=start, tags=dict(tags), run_name=title)
        self._log_params(run.info.run_id, params)
        return str(run.info.run_id)

    def run_id(self, fingerprint: str) -> str | None:
        """Returns the run of a node, or `None` if it has none yet."""
        run = self._known.get(fingerprint)
        return str(run.info.run_id) if run is not None else None

    def is_finished(self, fingerprint: str) -> bool:
        """Whether the store has the finished run of a node."""
        run = self._known.get(fingerprint)
        return run is not None and run.info.status == "FINISHED"

    def begin(self, node: Node, state: NodeState, serves: Mapping[str, list[str]]) -> str:
        """Opens the run of a node, or the one of an earlier attempt or another launch, and returns its id."""
        # Two launches that begin to follow one node open one run.
        with exclusively(state.folder / "tracking.lock"):
            run = self._find(state)
            if run is None:
                run_id = self._create(node, state, serves)
                self._remember(state, run_id, events=0)
                return run_id
        run_id = str(run.info.run_id)
        if not self.is_finished(node.fingerprint):
            self.client.update_run(run_id, status="RUNNING")
        self._tag_studies(run_id, serves)
        return run_id

    def _find(self, state: NodeState) -> Any | None:
        """Returns the run of a node as it is now, or `None`; one that is done anew has none before it has its own."""
        noted = self._get((read_json(state.folder / "tracking.json") or {}).get(self._key, {}).get("run_id"))
        if noted is None and state.is_anew:
            return None
        known = self._known.get(state.fingerprint)
        run = noted or (self._get(known.info.run_id) if known is not None else None) or self._newest(state.fingerprint)
        if run is not None:
            self._known[state.fingerprint] = run
        return run

    def _get(self, run_id: str | None) -> Any | None:
        """Returns a run of this experiment, or `None` if it is deleted, or of another store that had this address."""
        from mlflow.exceptions import MlflowException

        if run_id is None:
            return None
        try:
            run = self.client.get_run(run_id)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        is_there = run.info.lifecycle_stage == "active" and run.info.experiment_id == self.experiment_id
        return run if is_there else None

    def _newest(self, fingerprint: str) -> Any | None:
        found = self.search(f"tags.`{names.TAG_FINGERPRINT}` = '{fingerprint}'")
        return next((run for run in found if names.TAG_SUPERSEDED not in run.data.tags), None)

    def running(self) -> list[str]:
        """Returns the nodes whose runs the store has as running, now."""
        for fingerprint in [key for key, run in self._known.items() if run.info.status == "RUNNING"]:
            self._refresh(fingerprint)
        return [key for key, run in self._known.items() if run.info.status == "RUNNING"]

    def _create(self, node: Node, state: NodeState, serves: Mapping[str, list[str]]) -> str:
        tags = {
            names.TAG_KIND: node.kind,
            names.TAG_FINGERPRINT: node.fingerprint,
            names.TAG_SEED: str(node.spec.seed),
            **self.common_tags(),
            **_study_tags(serves),
        }
        if isinstance(node, EvaluationNode):
            # Another launch may have trained it.
            parent = self._find(NodeState(state.folder.parent / node.trial.fingerprint))
            tags |= {names.TAG_PARENT: str(parent.info.run_id)} if parent is not None else {}
        first = next(iter(state.attempts()), None)
        run_id = self.create_run(node.title, tags, _params(node), began=first.began if first is not None else None)
        self._log_dataset(run_id, node.spec)
        self._known[node.fingerprint] = self.client.get_run(run_id)
        return run_id

    def common_tags(self) -> dict[str, str]:
        """Returns the tags that every run of this launch carries."""
        return {
            names.TAG_PRESET: self.preset,
            names.TAG_GIT_COMMIT: self.commit.sha,
            names.TAG_GIT_DIRTY: str(self.commit.dirty).lower(),
        }

    def _log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        entries = [Param(key, str(value)) for key, value in params.items()]
        for start in range(0, len(entries), _ENTITIES_PER_CALL):
            self.client.log_batch(run_id, params=entries[start : start + _ENTITIES_PER_CALL])

    def _log_dataset(self, run_id: str, spec: TrialSpec) -> None:
        from mlflow.entities import Dataset, DatasetInput

        facts = spec.data.facts
        dataset = Dataset(
            name=facts.name,
            digest=(facts.digest or "unknown")[:36],
            source_type="local",
            source=canonical_json({"source": facts.source, "licence": facts.licence}),
            profile=canonical_json({"sha256": facts.digest, "classes": facts.num_classes}),
        )
        self.client.log_inputs(run_id, datasets=[DatasetInput(dataset=dataset)])

    def tag_studies(self, fingerprint: str, serves: Mapping[str, list[str]]) -> None:
        """Adds the studies a finished run now serves as well."""
        run = self._known[fingerprint]
        missing = {key: value for key, value in _study_tags(serves).items() if run.data.tags.get(key) != value}
        for key, value in missing.items():
            self.client.set_tag(run.info.run_id, key, value)

    def _tag_studies(self, run_id: str, serves: Mapping[str, list[str]]) -> None:
        for key, value in _study_tags(serves).items():
            self.client.set_tag(run_id, key, value)

    def sync(self, state: NodeState) -> int:
        """Brings new lines of metrics over; returns how many."""
        run_id = self.run_id(state.fingerprint)
        if run_id is None:
            return 0
        events = state.events()
        done = self._brought_over(state, run_id)
        fresh = events[done:]
        if fresh:
            self.log_metrics(run_id, fresh)
            self._remember(state, run_id, events=len(events))
        return len(fresh)

    def log_metrics(self, run_id: str, events: Iterable[Mapping[str, Any]]) -> None:
        """Writes events (`step`, `time` in milliseconds, `metrics`) in as few calls as the store takes."""
        from mlflow.entities import Metric

        metrics = [
            Metric(key, value, event["time"], event["step"])
            for event in events
            for key, value in event["metrics"].items()
        ]
        for start in range(0, len(metrics), _METRICS_PER_CALL):
            self.client.log_batch(run_id, metrics=metrics[start : start + _METRICS_PER_CALL])

    def _brought_over(self, state: NodeState, run_id: str) -> int:
        """Returns how many lines the store has, asking it when the note in the state folder may be behind."""
        note = (read_json(state.folder / "tracking.json") or {}).get(self._key, {})
        if note.get("run_id") == run_id and note.get("process") == os.getpid():
            return int(note["events"])
        history = self.client.get_metric_history(run_id, names.TRAIN_LOSS)
        last = max((metric.step for metric in history), default=-1)
        return sum(event["step"] <= last for event in state.events())

    def _remember(self, state: NodeState, run_id: str, *, events: int) -> None:
        notes = read_json(state.folder / "tracking.json") or {}
        notes[self._key] = {"run_id": run_id, "events": events, "process": os.getpid()}
        write_json(state.folder / "tracking.json", notes)

    def finish(self, state: NodeState) -> None:
        """Brings the rest of a finished node over and ends its run."""
        result = state.result()
        run_id = self.run_id(state.fingerprint)
        if result is None or run_id is None or self.is_finished(state.fingerprint):
            return
        self.sync(state)
        step = max((event["step"] for event in state.events()), default=0)
        stamp = int(result["time"] * 1000)
        metrics = {**result["metrics"], names.SECONDS: result["seconds"]}
        self.log_metrics(run_id, [{"step": step, "time": stamp, "metrics": metrics}])
        told = {**result.get("versions", {}), "device": result.get("device", "unknown")}
        self.client.set_tag(run_id, names.TAG_VERSIONS, canonical_json(told))
        if "micro_batch" in result:
            self.client.set_tag(run_id, names.TAG_MICRO_BATCH, str(result["micro_batch"]))
        for file in (state.weights_file, state.folder / names.ATTENTION_FILE, state.folder / names.CORRECTNESS_FILE):
            if file.exists():
                self.client.log_artifact(run_id, str(file))
        correctness = read_json(state.folder / names.CORRECTNESS_FILE)
        if correctness is not None:
            # After the file, so that a run that says it has one has one.
            self.client.set_tag(run_id, names.TAG_CORRECTNESS, correctness["sha256"])
        if state.is_anew:
            self._supersede(state.fingerprint, run_id)
            state.forget_earlier()
        self.client.set_terminated(run_id, status="FINISHED", end_time=stamp)
        self._refresh(state.fingerprint)

    def _supersede(self, fingerprint: str, run_id: str) -> None:
        """Says on the earlier runs of a node which one counts instead."""
        for run in list(self.search(f"tags.`{names.TAG_FINGERPRINT}` = '{fingerprint}'")):
            if run.info.run_id != run_id:
                self.client.set_tag(run.info.run_id, names.TAG_SUPERSEDED, run_id)

    def stop(self, state: NodeState, status: str, reason: str = "") -> None:
        """Ends the run of a node that failed (`FAILED`) or was cancelled (`KILLED`)."""
        run_id = self.run_id(state.fingerprint)
        if run_id is None or self.is_finished(state.fingerprint):
            return
        self.sync(state)
        if reason:
            self.client.set_tag(run_id, names.TAG_NOTE, reason[:5000])
        if state.log_file.exists():
            self.client.log_artifact(run_id, str(state.log_file))
        self.client.set_terminated(run_id, status=status)
        self._refresh(state.fingerprint)

    def _refresh(self, fingerprint: str) -> None:
        self._known[fingerprint] = self.client.get_run(self._known[fingerprint].info.run_id)

    def monitor(self, fingerprint: str) -> Any:
        """Starts system metrics (CPU, memory, GPU) on a long run; the result has a `finish` method."""
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        start: Any = SystemMetricsMonitor
        monitor = start(self.run_id(fingerprint), sampling_interval=30, tracking_uri=self.uri)
        monitor.start()
        return monitor


def _study_tags(serves: Mapping[str, list[str]]) -> dict[str, str]:
    return {names.study_tag(study): ", ".join(keys)[:5000] for study, keys in serves.items()}


def _params(node: Node) -> dict[str, Any]:
    spec = node.spec
    params = {"seed": spec.seed, **flatten(spec.model_dump(exclude={"seed"}))}
    where = spec.model.where
    params["model.where"] = placement_title(where) if where is not None else None
    if isinstance(node, EvaluationNode):
        change = node.intervention
        params |= {
            "intervention.aggregation": change.aggregation,
            "intervention.where": placement_title(change.where) if isinstance(change.where, Placement) else None,
            "intervention.temperature": change.temperature,
            "intervention.seed": change.seed,
        }
    return {key: value for key, value in params.items() if value is not None}
