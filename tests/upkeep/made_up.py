"""A made-up runs folder: launches of a tiny study, and what they have done, without any training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from ablations.planning.plan import Cell, Plan, make_plan
from ablations.planning.request import Request
from ablations.presets import get_preset
from ablations.registry import get_study
from runners.processes import Process
from runners.provenance import Commit
from runners.state.attempts import Lease
from runners.state.failures import FailurePolicy
from runners.state.launches import History
from runners.state.nodes import NodeState, StateStore
from runners.tracking.sync_notes import Source, add_origin

STUDY = """\
name: tiny
question: How does it go?
reference: calm
seeds: 1
baseline:
  train.epochs: 1
  data.train_images: 64
  data.validation_images: 10
  data.test_images: 10
  model.depth: 0.25
variants:
  calm: {}
  averaged: {intervention: {aggregation: average}}
  wide: {model.width: 0.5}
"""
ELSEWHERE = Process("far", "far/1/2", 4711, "1")
COMMIT = Commit("c0ffee" * 6, False)
DEAD = replace(Process.current(), pid=2**22 + 7)


class Folder:
    """A made-up runs folder: launches and what they have done."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.history = History(root)
        self.states = StateStore(root / "state")

    def plan(self, study: str = "tiny.yaml", *, seeds: int | None = None, **overrides: Any) -> Plan:
        """Returns the plan of a study as it is now; double underscores stand for dots."""
        settings = {key.replace("__", "."): value for key, value in overrides.items()}
        request = Request(get_preset("smoke"), settings, seeds)
        return make_plan([get_study(study, request.base())], request)

    def launch(self, plan: Plan, name: str = "first", *, alive: bool = False) -> None:
        """Writes down that a plan was carried out, or is."""
        with self.history.recording(plan, name, COMMIT, FailurePolicy(1, 50.0)):
            pass
        if alive:
            path = self.root / "launches" / f"{name}.json"
            path.write_text(json.dumps({**json.loads(path.read_text()), "ended": None}))
        self.history = History(self.root)

    def cell(self, plan: Plan, variant: str) -> Cell:
        """Returns the cell of a variant."""
        return next(cell for cell in plan.cells if cell.variant == variant)

    def state(self, plan: Plan, variant: str) -> NodeState:
        """Returns the described folder of a variant's node."""
        fingerprint = self.cell(plan, variant).fingerprint
        self.states[fingerprint].describe(plan.node(fingerprint))
        return self.states[fingerprint]

    def finish(self, plan: Plan, *variants: str, launch: str = "first") -> None:
        """Makes up results, with weights of trainings."""
        for variant in variants:
            state = self.state(plan, variant)
            with self.lease(state, launch) as lease:
                state.finish({"test/top1": 50.0}, 2.0)
                lease.end("finished")
            if plan.node(state.fingerprint).kind == "trial":
                state.weights_file.write_bytes(b"w" * 1000)

    def count(self, plan: Plan) -> list[NodeState]:
        """Makes up the costs of all networks that a plan counts, and returns their folders."""
        states = []
        for key, node in plan.costs.items():
            self.states[key].describe(node)
            with self.lease(self.states[key]) as lease:
                self.states[key].finish({"cost/parameters": 1e6, "cost/multiply_adds": 5e6}, 2.0)
                lease.end("finished")
            states.append(self.states[key])
        return states

    def owe(self, plan: Plan, variant: str) -> NodeState:
        """Writes down that a node is to be tracked, which it is not."""
        state = self.state(plan, variant)
        add_origin(state, Source("experiment", "smoke", COMMIT), plan.studies_of(state.fingerprint))
        return state

    def lease(self, state: NodeState, launch: str = "first", process: Process | None = None) -> Lease:
        """Begins an attempt at a node."""
        lease = Lease.take(state.folder, launch)
        assert lease is not None
        if process is not None:
            lease.note(process=process)
        return lease

    def fail(self, state: NodeState, cause: str, launch: str = "first") -> None:
        """Makes up a failed attempt."""
        failure = {"kind": "SomeError", "message": "it did not work", "cause": cause}
        lease = self.lease(state, launch)
        state.fail(failure["kind"], failure["message"], "Traceback", cause)
        lease.end("failed", failure)
