"""This module brings the state folders of nodes into the tracking store, in batches, each line once.

A worker never talks to MLflow; it writes events to its state folder, and the launcher follows. Every method may be
called again after it failed half-way, by this process or another one: entries that are there already stay. The caller
holds the folder's `NodeLock`, so that nobody else writes to the same runs.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ablations import vocabulary as names
from ablations.planning.nodes import Node, ProposedNode
from ablations.spec.fingerprint import canonical_json
from runners.provenance import Commit
from runners.state.attempts import count_attempts
from runners.state.files import exclusively
from runners.state.nodes import NodeState
from runners.tracking.descriptions import training_note
from runners.tracking.experiment import FINISHED, KILLED, RUNNING, Experiment, KnownRun
from runners.tracking.groups import group_run
from runners.tracking.node_tags import (
    dataset_input,
    kind_tags,
    machine_tag,
    note_tag,
    params_of,
    plugin_tags,
    result_tags,
    study_tags,
)
from runners.tracking.result_files import (
    MODEL_FILE,
    digest_of_file,
    digest_of_text,
    files_of,
    model_text,
    record_text,
)
from runners.tracking.sync_notes import (
    Source,
    SyncNote,
    add_origin,
    folder_id,
    read_note,
    read_origin,
    store_key,
    write_note,
)


class Tracker(Experiment):
    """The runs of nodes of one preset and data set in one store.

    Args:
        uri: The tracking store; `prepare_store` must have seen it.
        artifacts: The folder in which a local store keeps artifacts; a server decides for itself.
        commit: The code's commit, for the tags.
        preset: The preset, for the tags.
        for_nodes: True if runs of nodes will be written; the present ones are then read at once.
    """

    def __init__(
        self, uri: str, experiment: str, artifacts: Path, *, commit: Commit, preset: str, for_nodes: bool = True
    ) -> None:
        super().__init__(uri, experiment, artifacts)
        self.preset, self.commit = preset, commit
        self.key = store_key(uri, experiment, artifacts.parent)
        # Identifiers of folders of states; the last step in the store and the runs, by fingerprint; runs of groups.
        self._folder_ids: dict[Path, str] = {}
        self._steps: dict[str, int] = {}
        self._runs: dict[str, list[KnownRun]] = {}
        self._groups: dict[str, str] = {}
        if for_nodes:
            # One search for all nodes, rather than a request for each.
            for run in self.search(f"tags.`{names.TAG_FINGERPRINT}` LIKE '%'"):
                self._runs.setdefault(run.data.tags[names.TAG_FINGERPRINT], []).append(KnownRun.of(run))

    def runs(self, fingerprint: str) -> Sequence[KnownRun]:
        """Return the known runs of a node, the newest first."""
        return self._runs.get(fingerprint, ())

    def look_up(self, fingerprint: str) -> Sequence[KnownRun]:
        """Ask the store for the present runs of a node and return them, the newest first."""
        runs = self.search(f"tags.`{names.TAG_FINGERPRINT}` = '{fingerprint}'")
        self._runs[fingerprint] = [KnownRun.of(run) for run in runs]
        return self.runs(fingerprint)

    def finished(self, state: NodeState) -> KnownRun | None:
        """Return the newest finished run that stands for a node, whichever machine measured it, or `None`."""
        # A folder whose node was never done anew has no generation, and takes a result of any.
        generation = _generation(state)
        for run in self.runs(state.fingerprint):
            if run.status == FINISHED and not run.is_superseded and generation in ("", run.generation):
                return run
        return None

    def running(self) -> list[str]:
        """Ask the store for runs that are RUNNING on any machine; return the fingerprints of their nodes."""
        results = self.search(f"attributes.status = '{RUNNING}' AND tags.`{names.TAG_FINGERPRINT}` LIKE '%'")
        fingerprints: dict[str, None] = {}
        # Read whole before anything is changed: the search is a request for each page.
        for run in [KnownRun.of(result) for result in results]:
            fingerprint = run.tags[names.TAG_FINGERPRINT]
            fingerprints[fingerprint] = None
            node_runs = [node_run for node_run in self.runs(fingerprint) if node_run.run_id != run.run_id]
            self._runs[fingerprint] = [run, *node_runs]
        return list(fingerprints)

    def is_complete(self, state: NodeState, serves: Mapping[str, list[str]]) -> bool:
        """Return True if nothing about a finished node is left to be written, as far as is known without a request."""
        run, note = self.finished(state), read_note(state, self.key)
        if run is None or note is None or not note.complete or note.run_id != run.run_id:
            return False
        return not run.differing(study_tags(serves))

    def unfinished(self, state: NodeState) -> KnownRun | None:
        """Return the unfinished run that belongs to a state folder, or `None` if none is known."""
        return next(iter(self._all_unfinished(state)), None)

    def _writable_run(self, state: NodeState) -> KnownRun | None:
        """Return the run of a state folder that is still written: none once any machine has finished the node."""
        run = self.unfinished(state)
        if self.finished(state) is not None:
            return None
        return run

    def _all_unfinished(self, state: NodeState) -> list[KnownRun]:
        note, owner, generation = read_note(state, self.key), self.folder_id(state), _generation(state)
        unfinished: list[KnownRun] = []
        for run in self.runs(state.fingerprint):
            # Runs of earlier versions have no tag for the owner; they were not shared, so they belong to this folder.
            is_of_folder = run.tags.get(names.TAG_OWNER, owner) == owner
            if is_of_folder and run.status != FINISHED and run.generation == generation:
                unfinished.append(run)
        # The noted run first, then the oldest.
        return sorted(unfinished, key=lambda run: (note is None or run.run_id != note.run_id, run.order))

    def run_id(self, fingerprint: str) -> str | None:
        """Return the id of a node's newest run, a finished one before others, or `None` if none is known."""
        runs = sorted(self.runs(fingerprint), key=lambda run: (run.is_superseded, run.status != FINISHED))
        if not runs:
            return None
        return runs[0].run_id

    def folder_id(self, state: NodeState) -> str:
        """Return the identifier of the folder in which the state folder lies."""
        root = state.folder.parent
        if root not in self._folder_ids:
            self._folder_ids[root] = folder_id(root)
        return self._folder_ids[root]

    def begin(self, node: Node, state: NodeState, serves: Mapping[str, list[str]]) -> str:
        """Open the run of a node, or go on with the one there is; return its id.

        To be called first whenever the folder's lock has been acquired, and after any failure.
        """
        self._refresh(node, state, serves)
        return self.go_on(node, state, serves)

    def record(self, node: Node, state: NodeState, serves: Mapping[str, list[str]]) -> str:
        """Do the work of `begin` and `finish` for a node that is done, in fewer requests; return its run's id."""
        self._refresh(node, state, serves)
        # A new run gets them when it is opened, which saves a request for each of many short evaluations.
        ending = _ending_tags(state)
        run = self._current_run(node, state, serves, ending)
        if run.status != FINISHED:
            params, tags = self._lacking(run, node, state, serves)
            self._log_data(run, node)
            self._end(run, state, {**tags, **ending}, params=params)
        return run.run_id

    def _refresh(self, node: Node, state: NodeState, serves: Mapping[str, list[str]]) -> None:
        # A failed request may have reached the store, so its last step is asked for anew.
        self._steps.pop(node.fingerprint, None)
        if read_origin(state) is None:
            add_origin(state, self.source, serves, anew=state.is_anew)
        if self.finished(state) is None:
            self.look_up(node.fingerprint)

    def go_on(self, node: Node, state: NodeState, serves: Mapping[str, list[str]]) -> str:
        """Do the work of `begin` for a node whose runs have just been looked up."""
        run = self._current_run(node, state, serves)
        if run.status != FINISHED:
            params, tags = self._lacking(run, node, state, serves)
            self.write(run.run_id, params=params, tags=tags)
            run.add(params, tags)
            self._log_data(run, node)
            note = read_note(state, self.key)
            if note is None or note.run_id != run.run_id:
                write_note(state, self.key, SyncNote(run.run_id))
        return run.run_id

    def _current_run(
        self, node: Node, state: NodeState, serves: Mapping[str, list[str]], extra_tags: Mapping[str, str] | None = None
    ) -> KnownRun:
        """Return the finished run of a node, or that of its state folder, running; a new one has `extra_tags`."""
        finished = self.finished(state)
        if finished is not None:
            self._accept(finished, state, serves)
            return finished
        run = self._keep_one(state) or self.open(node, state, serves, extra_tags)
        if run.status != RUNNING:
            self.set_status(run, RUNNING)
        return run

    def _keep_one(self, state: NodeState) -> KnownRun | None:
        """Return the unfinished run of a state folder; drop a second one, which a lost answer may have left."""
        runs = self._all_unfinished(state)
        for duplicate in runs[1:]:
            self.drop(duplicate)
        return next(iter(runs), None)

    def drop(self, run: KnownRun) -> None:
        """Delete a run in which nothing was measured."""
        self.client.delete_run(run.run_id)
        self._runs[run.tags[names.TAG_FINGERPRINT]].remove(run)

    def open(
        self, node: Node, state: NodeState, serves: Mapping[str, list[str]], extra_tags: Mapping[str, str] | None = None
    ) -> KnownRun:
        """Open a new run of a node, with `extra_tags` if there are any, and return it."""
        origin = read_origin(state)
        tags = {
            **kind_tags(node),
            **plugin_tags(state),
            names.TAG_OWNER: self.folder_id(state),
            names.TAG_HOST: socket.gethostname(),
            **self.common_tags(origin.commit if origin else None),
            **study_tags(serves),
            **self._parent(node, state, serves),
            **(extra_tags or {}),
        }
        if origin is not None and origin.generation:
            tags[names.TAG_GENERATION] = origin.generation
        # The run began with the first attempt, which may be long before it is opened here.
        attempts = state.attempts()
        began = attempts[0].began if attempts else None
        run = self.open_run(state.title(node), tags, began=began)
        self._runs.setdefault(node.fingerprint, []).insert(0, run)
        # A new run has no metrics, so the store need not be asked for its last step.
        self._steps[node.fingerprint] = -1
        return run

    def _parent(self, node: Node, state: NodeState, serves: Mapping[str, list[str]]) -> dict[str, str]:
        parent = None
        if node.depends_on is not None:
            parent = self.run_id(node.depends_on)
        elif isinstance(node, ProposedNode):
            parent = self._group_run(node, state, serves)
        if not parent:
            return {}
        return {names.TAG_PARENT: parent}

    def _group_run(self, node: ProposedNode, state: NodeState, serves: Mapping[str, list[str]]) -> str:
        if node.group not in self._groups:
            # Or two launches in the same folder would open a group's run at once.
            with exclusively(state.folder.parent / f"{node.group}.lock"):
                tags = {**self.common_tags(), **study_tags(serves)}
                self._groups[node.group] = group_run(self, node, tags)
        return self._groups[node.group]

    def common_tags(self, commit: Commit | None = None) -> dict[str, str]:
        """Return the tags that every run of this launch carries."""
        commit = commit or self.commit
        return {
            names.TAG_PRESET: self.preset,
            names.TAG_GIT_COMMIT: commit.sha,
            names.TAG_GIT_DIRTY: str(commit.dirty).lower(),
        }

    def _lacking(
        self, run: KnownRun, node: Node, state: NodeState, serves: Mapping[str, list[str]]
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """Return the params and tags that a run lacks: all of them, or those that a crash left out."""
        # By name only: a param cannot be changed, and a newer version of the code may word its value differently.
        params = {key: value for key, value in params_of(node, state).items() if key not in run.params}
        return params, run.differing({**study_tags(serves), **self._parent(node, state, serves)})

    def _log_data(self, run: KnownRun, node: Node) -> None:
        if not run.has_data:
            self.client.log_inputs(run.run_id, datasets=[dataset_input(node.spec)])
            run.has_data = True

    def _accept(self, finished: KnownRun, state: NodeState, serves: Mapping[str, list[str]]) -> None:
        """Note that the store has a finished run of a node, and tag it with the studies that it serves now."""
        self.tag(finished, study_tags(serves))
        run = self._keep_one(state)
        if run is not None and run.status == RUNNING:
            # Said before it is ended: a run without a reason would look like one that the user had stopped.
            self.tag(run, note_tag(f"run {finished.run_id} finished first"))
            self.write(run.run_id, [_attempts_event(state)])
            self.set_status(run, KILLED)
        self.note_end(state, finished.run_id)

    def note_end(self, state: NodeState, run_id: str) -> None:
        """Note in a state folder that the store has all of its node; remove the earlier folder kept until then."""
        if state.is_anew:
            state.forget_earlier()
        before = read_note(state, self.key)
        if before is None or (before.run_id, before.complete) != (run_id, True):
            step = max((event["step"] for event in state.events()), default=-1)
            write_note(state, self.key, SyncNote(run_id, step, complete=True))

    def sync(self, state: NodeState) -> int:
        """Bring new events over; return their number."""
        run = self._writable_run(state)
        if run is None:
            return 0
        fresh = self._fresh(state, run)
        self._write(state, run, fresh)
        return len(fresh)

    def _fresh(self, state: NodeState, run: KnownRun) -> list[dict[str, Any]]:
        """Return the events that the store lacks; ask the store if its last step is not known."""
        events = state.events()
        # Without events there is nothing to bring over, so the store need not be asked yet.
        if events and state.fingerprint not in self._steps:
            history = self.client.get_metric_history(run.run_id, names.TRAIN_LOSS)
            self._steps[state.fingerprint] = max((metric.step for metric in history), default=-1)
        return [event for event in events if event["step"] > self._steps[state.fingerprint]]

    def _write(
        self,
        state: NodeState,
        run: KnownRun,
        events: Sequence[Mapping[str, Any]],
        *,
        final_events: Sequence[Mapping[str, Any]] = (),
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        # The step is forgotten first: after a failed request the store may have the lines all the same, and is asked
        # before anything is written again.
        known_step = self._steps.pop(state.fingerprint, None)
        self.write(run.run_id, [*events, *final_events], params=params, tags=tags)
        run.add(params or {}, tags or {})
        if known_step is None:
            return
        step = self._steps[state.fingerprint] = max([known_step, *(event["step"] for event in events)])
        if read_note(state, self.key) != SyncNote(run.run_id, step):
            write_note(state, self.key, SyncNote(run.run_id, step))

    def finish(self, state: NodeState) -> None:
        """Bring the rest of a finished node over and end its run."""
        run = self._writable_run(state)
        if state.is_done and run is not None:
            self._end(run, state, _ending_tags(state))

    def _end(
        self,
        run: KnownRun,
        state: NodeState,
        tags: Mapping[str, str],
        *,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        result = state.result()
        assert result is not None, "only what is done is ended"
        # MLflow counts in milliseconds.
        stamp = int(result["time"] * 1000)
        step = max((event["step"] for event in state.events()), default=0)
        result_event = {"step": step, "time": stamp, "metrics": {**result["metrics"], names.SECONDS: result["seconds"]}}
        final_events = [result_event]
        if count_attempts(state.folder) > 1:
            # The seconds of the result are those of the last attempt alone.
            final_events.append(_attempts_event(state))
        model = model_text(state, run.run_id)
        if model is not None:
            tags = {**tags, **note_tag(training_note(run.run_id, result["metrics"]))}
        tags = run.differing(tags)
        self._write(state, run, self._fresh(state, run), final_events=final_events, params=params, tags=tags)
        self.put_text(run, record_text(state), names.RECORD_FILE)
        for file in files_of(state):
            self.put_file(run, file)
        if model is not None:
            self.put_text(run, model, MODEL_FILE)
        if _generation(state):
            self._supersede(run)
        # After all files: a run that is FINISHED is complete, and other machines rely on that.
        self.set_status(run, FINISHED, stamp)
        self.note_end(state, run.run_id)

    def _supersede(self, run: KnownRun) -> None:
        """Tag the earlier runs of a node that is done anew with the run that counts instead."""
        for earlier_run in self.look_up(run.tags[names.TAG_FINGERPRINT]):
            if earlier_run.generation != run.generation and not earlier_run.is_superseded:
                self.tag(earlier_run, {names.TAG_SUPERSEDED: run.run_id})

    def stop(self, state: NodeState, status: str, reason: str = "") -> None:
        """End the run of a node that failed (`FAILED`) or was cancelled (`KILLED`)."""
        run = self._writable_run(state)
        if run is None:
            return
        tags = machine_tag(state)
        if reason:
            tags |= note_tag(reason)
        self._write(state, run, self._fresh(state, run), final_events=[_attempts_event(state)], tags=tags)
        if state.log_file.exists():
            self.put_file(run, state.log_file)
        self.set_status(run, status)

    @property
    def source(self) -> Source:
        """The origin that all nodes written here have in common."""
        return Source(self.name, self.preset, self.commit)


def _ending_tags(state: NodeState) -> dict[str, str]:
    """Return the tags of a finished run: the digests of its files, and those about its measurement."""
    digests = {file.name: digest_of_file(file) for file in files_of(state)}
    digests[names.RECORD_FILE] = digest_of_text(record_text(state))
    return {names.TAG_FILES: canonical_json(digests), **result_tags(state, state.result() or {})}


def _attempts_event(state: NodeState) -> dict[str, Any]:
    """Return the event with the number and the wall seconds of all attempts at a node.

    Its step is their number: what is written after a later attempt is the last value of the metric then.
    """
    attempts, result = state.attempts(), state.result()
    seconds = [attempt.seconds for attempt in attempts]
    time_stamp = max((attempt.ended or attempt.began for attempt in attempts), default=0.0)
    if attempts and result is not None:
        # A worker notes the end of its attempt after the result, so that it may not be there yet.
        seconds[-1], time_stamp = result["seconds"], result["time"]
    metrics = {names.ATTEMPTS: float(len(attempts)), names.ATTEMPT_SECONDS: math.fsum(seconds)}
    return {"step": len(attempts), "time": int(time_stamp * 1000), "metrics": metrics}


def _generation(state: NodeState) -> str:
    origin = read_origin(state)
    return origin.generation if origin is not None else ""
