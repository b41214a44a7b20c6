"""This module measures the harness: a quick trial against its network alone, and planning by number of runs."""

from __future__ import annotations

import cProfile
import pstats
import statistics
import tempfile
import time
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

import runners
from ablations.planning.nodes import Node, TrialNode
from ablations.planning.plan import Plan, make_plan
from ablations.planning.request import Request
from ablations.presets import get_preset
from ablations.registry import get_study
from ablations.study import Study, Variant
from benchmarks.timing import Step, interleaved
from runners.state.nodes import StateStore
from runners.training.network import build_network
from runners.training.optimizer import make_optimizer
from runners.workers.task import Task
from runners.workers.trial import run_node

_ROUNDS = 15
SIZES = (10, 100, 1_000, 10_000)


_BUILT_IN = "~"
"""The file of built-in functions in a profile."""

_KEEPING = ("training/checkpoint", "training/sealed_tensors", "state/attempts", "state/files", "state/nodes")
"""Modules of `runners` by which a worker writes the state of its node."""


def trial() -> dict[str, Any]:
    """Return images per second in training, and the shares of a trial spent outside its network and on its state.

    Inside its network are forward and backward passes and optimiser steps of the training, and the forward passes over
    the validation and test splits. Each is timed alone on random images and multiplied by its number in a trial. Its
    state is leases, progress, metrics, checkpoints, weights and result, timed in a second trial that is profiled.
    """
    request = Request(get_preset("quick"))
    plan = make_plan([get_study("temperature", request.base())], request)
    node = next(node for node in plan.missing_trials if node.spec.train.temperature is not None)
    with tempfile.TemporaryDirectory() as folder:
        state = StateStore(Path(folder))[node.fingerprint]
        seconds = _seconds(partial(_run, node, Path(folder)))
        events = [event["metrics"] for event in state.events()]
    # A second trial, because profiling slows it down: only shares are read from this one.
    with tempfile.TemporaryDirectory() as folder, cProfile.Profile() as profile:
        _run(node, Path(folder))
    stats, inside = pstats.Stats(profile), _network_seconds(node)
    return {
        "title": node.title,
        "seconds": seconds,
        "network_seconds": inside,
        "share_outside": 1 - inside / seconds,
        "share_state": seconds_in(stats, _KEEPING) / vars(stats)["total_tt"],
        "images_per_second": statistics.median(metrics["train/images_per_second"] for metrics in events),
    }


def _network_seconds(node: TrialNode) -> float:
    spec, facts = node.spec, node.spec.data.facts
    model = build_network(spec.model, facts, 0).to(memory_format=torch.channels_last)
    optimizer = make_optimizer(model, spec.train)
    size = (facts.channels, facts.image_size, facts.image_size)
    images = torch.randn(spec.train.batch_size, *size).contiguous(memory_format=torch.channels_last)
    labels = torch.zeros(len(images), dtype=torch.long)

    def training() -> None:
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(F.cross_entropy(model(images), labels))
        optimizer.step()

    def looking() -> None:
        with torch.no_grad():
            model(images)

    # The last, short batch of each epoch is dropped in training; an evaluation looks at every image.
    step = _alone(training)
    model.eval()
    look = _alone(looking) / len(images)
    count = spec.data.train_images or facts.train_images
    seen = spec.train.epochs * facts.validation_images + facts.test_images
    return spec.train.epochs * (count // len(images)) * step + seen * look


def _run(node: Node, folder: Path) -> None:
    state = StateStore(folder)[node.fingerprint]
    state.describe(node)
    run_node(Task(folder, node.fingerprint, "cpu"))
    assert state.is_done, state.failure()


def _seconds(step: Step) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def seconds_in(stats: pstats.Stats, modules: Collection[str]) -> float:
    """Return the seconds spent in functions of these modules of `runners`, and in the functions that they called.

    A callback from a built-in function counts for the caller of the built-in.
    """
    inside = {str(Path(runners.__file__).parent / f"{module}.py") for module in modules}
    entered = 0.0
    for (file, _, _), (_, _, _, _, callers) in vars(stats)["stats"].items():
        if file in inside:
            # Cumulative time, only where the modules are entered from outside, or nested calls would count twice.
            entered += sum(timed[3] for (caller, _, _), timed in callers.items() if caller not in {*inside, _BUILT_IN})
    return entered


def planning() -> list[dict[str, float]]:
    """Return the median seconds of planning by number of runs, ten of each variant; the sizes take turns."""
    steps = {str(runs): partial(_plan, runs) for runs in SIZES}
    seconds = interleaved(steps, rounds=5, warmup=1)
    return [{"runs": runs, "seconds": seconds[str(runs)]} for runs in SIZES]


def _plan(runs: int) -> None:
    assert len(many_runs(runs).trials) == runs


def many_runs(runs: int) -> Plan:
    """Return the plan of one study with this number of runs, ten of each variant."""
    variants = tuple(Variant(name=f"v{n}", changes={"train.learning_rate": 0.01 + n * 1e-5}) for n in range(runs // 10))
    study = Study(name="many", title="Many", question="?", reference="v0", variants=variants)
    return make_plan([study], Request(get_preset("quick"), seeds=10))


def _alone(step: Step) -> float:
    return interleaved({"": step}, rounds=_ROUNDS)[""]
