"""This module spells the names of tags, params and metrics that runners write to MLflow and reports read back.

Nothing here talks to MLflow. A name is spelled only here; both sides import it.
"""

from __future__ import annotations

import hashlib
import re
from typing import Literal

Kind = Literal["trial", "network", "evaluation", "cost", "study", "variant", "tuning", "tuned", "search", "searched"]

TAG_KIND = "abl.kind"
LONGEST_TAG = 5000
"""Characters of a tag that every store of MLflow accepts."""

TAG_FINGERPRINT = "abl.fingerprint"
TAG_SEED = "abl.seed"
TAG_STUDY_PREFIX = "abl.study."
TAG_STUDY_NAME = "abl.study_name"
TAG_VARIANT_NAME = "abl.variant_name"
TAG_GIT_COMMIT = "abl.git_commit"
TAG_GIT_DIRTY = "abl.git_dirty"
TAG_PRESET = "abl.preset"
TAG_OVERRIDES = "abl.overrides"
TAG_SEEDS = "abl.seeds"
TAG_CANARY = "abl.canary"
"""On a study's summary run: whether its reference was to be trained again under other seeds."""
TAG_ARTIFACTS = "abl.artifacts"
"""On an experiment whose artifacts lie beside its store: the name of their folder, so that both can be moved."""
TAG_LAUNCHES = "abl.launches"
"""On a study's summary run, a JSON list: what was estimated of each launch and what it took (`launches.Record`)."""
TAG_LOOKS = "abl.looks"
"""On a study's summary run, a JSON list: each look at the results so far (`protocol.looks.Look`)."""
TAG_STOPPING = "abl.stopping"
"""On a study's summary run, if seeds were added until claims were decided: their largest number (`max_seeds`)."""
TAG_FIRST_SEEDS = "abl.first_seeds"
"""On the same runs: the number of seeds at the first look, which fixes all looks; `TAG_SEEDS` has that of the last."""
TAG_ROWS = "abl.rows"
"""On a study's summary run, if some of its rows were asked for: their names as JSON, or the digest of many."""
TAG_ONLY_SEED = "abl.only_seed"
"""On a study's summary run, if one repeat was asked for: its seed."""
TAG_FROZEN = "abl.frozen"
"""On a study's summary run, if its plan was frozen: the SHA-256 of the frozen plan."""
TAG_VERSIONS = "abl.versions"
"""JSON object: versions of python, torch, torchvision, mlflow, and the platform and device a node ran on.

Since results are known to differ between processors also `processor` (its model), `instructions` (the widest that torch
uses), `threads` and, on a GPU, `gpu` (its model). Runs of earlier versions lack them. On a run that failed or was
stopped: the machine alone, without versions.
"""
TAG_PLUGINS = "abl.plugins"
"""JSON object on a run that needs plug-ins: by what they register (`strategy top2`) their `code` and `plugin`."""
TAG_PEAK_MEMORY = "abl.peak_memory"
"""JSON object on a finished run: the most bytes of `main` memory that its worker took, and of `gpu` memory if any."""
TAG_MICRO_BATCH = "abl.micro_batch"
"""Images that a training passed through the network at once; fewer than its spec says if it ran out of memory."""
TAG_SUPERSEDED = "abl.superseded_by"
"""On a run that was done anew: the id of the run that counts instead."""
TAG_CORRECTNESS = "abl.correctness"
"""Digest of a run's `CORRECTNESS_FILE`; a run without the tag has no such file."""
TAG_OWNER = "abl.owner"
"""The folder of states to which a run belongs: an identifier in that folder, so that two machines are told apart."""
TAG_HOST = "abl.host"
"""Name of the machine that opened the run."""
TAG_HEARTBEAT = "abl.heartbeat"
"""A word that changes while the node runs. Other machines watch for changes; it is no time, as clocks differ."""
TAG_GENERATION = "abl.generation"
"""Set on the runs of a node that was measured anew on request: earlier finished runs do not stand for it."""
TAG_FILES = "abl.files"
"""JSON object: SHA-256 of each artifact from which another machine takes the result over."""
TAG_GROUP = "abl.group"
"""Fingerprint of what the trials of one tuning or search share; on these and on the run above them."""
TAG_SLOT = "abl.slot"
"""Place of a trial in its group, from 0."""
TAG_OUTCOME = "abl.outcome"
"""The outcome of a trial of a tuning or a search: `complete`, `pruned` (stopped early) or `diverged`."""
TAG_FOUND_PREFIX = "abl.found."
"""On the run above a tuning: the value that was found for a setting. Tags, as a larger budget may find another."""
TAG_TUNED = "abl.tuned"
"""On a trial: which of its settings were tuned. On a study: where the tuned values of its variants are, if used."""
TAG_CHECKPOINT = "abl.checkpoint"
"""SHA-256 of the file of a network that was trained elsewhere; on its run and on those of its evaluations."""
TAG_PARENT = "mlflow.parentRunId"
TAG_NOTE = "mlflow.note.content"

TRAIN_LOSS = "train/loss"
TRAIN_TOP1 = "train/top1"
"""Of the images as they are trained on, augmented and with dropout; there is none where images are mixed."""
TRAIN_GRADIENT_NORM = "train/gradient_norm"
TRAIN_LEARNING_RATE = "train/learning_rate"
TRAIN_IMAGES_PER_SECOND = "train/images_per_second"
VAL_LOSS = "val/loss"
VAL_TOP1 = "val/top1"
VAL_TOP5 = "val/top5"
TEST_LOSS = "test/loss"
TEST_TOP1 = "test/top1"
TEST_TOP5 = "test/top5"
TEMPERATURE = "temperature"
SECONDS = "seconds"
"""Wall seconds of the attempt that made a result."""
ATTEMPT_SECONDS = "seconds.attempts"
"""Wall seconds of all attempts at a node, at the step of the last one; left out where one attempt made the result."""
ATTEMPTS = "attempts"
"""Number of attempts at a node, beside `ATTEMPT_SECONDS`."""
ENTROPY_PREFIX = "attention/entropy."
"""Entropy of a layer's attention in nats divided by log K: 0 is one-hot, 1 is uniform."""
TRACKED_ENTROPY_PREFIX, TRACKED_CLASS_PREFIX = "weight_entropy.", "top1_class."
"""Entropies and accuracies by class in the tracking store, whose UI sorts charts by name: what has no slash comes last
there, and these come after `temperature`."""
SYSTEM_PREFIX = "system/"
"""Load of the machine by epoch. MLflow's UI shows metrics of this prefix on a page of their own."""

ATTENTION_GAP = "test/attention_gap"
"""Mean entropy of the attention (0 to 1) in the shallow half of the dynamic layers minus that in the deep half."""
ATTENTION_FILE = "attention.json"
"""Artifact of a dynamic trial: entropy and mean attention per layer and class on the test split."""
REPORT_FOLDER = "report"
"""The folder of a report's files among the artifacts of a study's summary run."""
FROZEN_FILE = "frozen-plans.json"
"""File in that folder: the plans that were frozen before the runs, a JSON list."""
RECORD_FILE = "record.json"
"""Artifact of a finished node: its description, result and lines of metrics, exactly as they were measured."""
WEIGHTS_FILE = "model.safetensors"
"""Artifact of a finished trial: the trained weights."""

CORRECTNESS_FILE = "correctness.json"
"""Artifact of a trial or evaluation: which images of the test split were classified correctly, a bit each.

A JSON object: `split`, `images` (their number), `data_digest`, `order` (`data set`: that of the split, or `evaluation`:
that in which they were measured, for a source that does not tell), `bits` (per metric, base64 of bits packed from the
most significant on), `sha256` (of the canonical JSON of all that).
"""

TUNING_TOP1 = "tuning/top1"
"""Accuracy in % on the validation split by which a trial of a tuning or a search is judged."""
TUNING_EPOCHS = "tuning/epochs"
TUNING_TRIALS_PREFIX = "tuning/trials."
"""Number of trials that ended in an outcome, for example `tuning/trials.pruned`."""

PROPOSED_PREFIX = "proposed."
"""Params of a trial of a tuning or a search: what was proposed for a factor."""

COST_PARAMETERS = "cost/parameters"
COST_MULTIPLY_ADDS = "cost/multiply_adds"
COST_LATENCY = "cost/latency_ms"
COST_LATENCY_RATIO = "cost/latency_ratio"
"""Single-image latency divided by that of the same network with static layers, timed in turn in one process."""
# Without latencies, which are of one machine on one day: no study is judged by them.
COST_METRICS = frozenset({COST_PARAMETERS, COST_MULTIPLY_ADDS})

MEAN, SD, CI_LOW, CI_HIGH, COUNT = ".mean", ".sd", ".ci_low", ".ci_high", ".n"
P_VALUE, P_HOLM, P_BETTER = ".p", ".p_holm", ".p_better"
"""Of a paired difference: by its interval, and corrected over the table it stands in; and the probability that a repeat
of the row is better than one of the reference."""
DELTA_PREFIX = "delta."

STUDY_METRICS = {
    TEST_TOP1: "test top-1 accuracy (%)",
    TEST_TOP5: "test top-5 accuracy (%)",
    TEST_LOSS: "test loss (nats)",
    VAL_TOP1: "validation top-1 accuracy (%)",
    VAL_LOSS: "validation loss (nats)",
    ATTENTION_GAP: "entropy of the attention, shallow half minus deep half (0 to 1)",
    COST_PARAMETERS: "parameters",
    COST_MULTIPLY_ADDS: "multiply-adds",
}
"""The metrics a study may be judged by, with the words a table uses for them."""

_POINTS = frozenset({TEST_TOP1, TEST_TOP5, VAL_TOP1, VAL_TOP5})
"""Metrics in per cent, whose differences are points."""

HIGHER_IS_BETTER = frozenset({TEST_TOP1, TEST_TOP5, VAL_TOP1, VAL_TOP5, ATTENTION_GAP})

# A name that ends in eight hexadecimal digits looks like the slug of another one, so it is not safe as it is.
_SAFE = re.compile(r"(?!(.*-)?[0-9a-f]{8}$)[A-Za-z0-9_\-]+")
_UNSAFE = re.compile(r"[^A-Za-z0-9_\-]+")
_SLUG_LENGTH = 48
# Whole parts of a layer's name alone: `layer1` is a name, the `1` in `features.1` is a place in a sequence.
_ONE_DIGIT = re.compile(r"(?<![^.])\d(?![^.])")
_PADDED = re.compile(r"(?<![^.])0(\d)(?![^.])")
_CLASS_METRIC = re.compile(r"(?P<split>\w+)/top1\.class\.(?P<index>\d+)")
_TRACKED_CLASS = re.compile(rf"{re.escape(TRACKED_CLASS_PREFIX)}(?P<split>\w+)\.(?P<index>\d{{3,}})")


def slug(name: str) -> str:
    """Return `name` if it is safe in a path and an MLflow key, else a safe form that no other name shares.

    A name with any other character keeps its readable part and gains the first eight digits of its SHA-256, so
    `../x` and `..-x` stay different and neither leaves a folder. So does a name that looks like such a form.
    """
    if len(name) <= _SLUG_LENGTH and _SAFE.fullmatch(name):
        return name
    # "surrogatepass", as a name may come from a path whose bytes are no UTF-8.
    readable = _UNSAFE.sub("-", name).strip("-")[:_SLUG_LENGTH]
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{readable}-{digest}" if readable else digest


def usual_size_of_interest(metric: str) -> float:
    """Return the smallest difference that matters where a study does not say, in the unit of the metric."""
    if metric in _POINTS:
        return 1.0
    return 0.1


def study_tag(study: str) -> str:
    """Return the tag key under which a run names the variant that it serves in `study`."""
    return TAG_STUDY_PREFIX + slug(study)


def entropy_metric(layer: str) -> str:
    """Return the metric name for the attention entropy of the layer called `layer`."""
    return ENTROPY_PREFIX + layer


def tracked_metric(name: str) -> str:
    """Return the name of a metric in the tracking store: those of single layers and classes come last, in their order.

    MLflow's UI sorts by characters, `10` before `2`, so that numbers of layers get two digits there and classes three.
    """
    if name.startswith(ENTROPY_PREFIX):
        return TRACKED_ENTROPY_PREFIX + _ONE_DIGIT.sub(r"0\g<0>", name.removeprefix(ENTROPY_PREFIX))
    match = _CLASS_METRIC.fullmatch(name)
    if match is not None:
        return f"{TRACKED_CLASS_PREFIX}{match['split']}.{int(match['index']):03d}"
    return name


def measured_metric(name: str) -> str:
    """Return the name under which a metric of the tracking store was measured, the opposite of `tracked_metric`.

    Stores of earlier versions have that name itself, which is returned as it is.
    """
    if name.startswith(TRACKED_ENTROPY_PREFIX):
        return ENTROPY_PREFIX + _PADDED.sub(r"\1", name.removeprefix(TRACKED_ENTROPY_PREFIX))
    match = _TRACKED_CLASS.fullmatch(name)
    if match is not None:
        return class_metric(match["split"], int(match["index"]))
    return name


def class_metric(split: str, class_index: int) -> str:
    """Return the metric name for the top-1 accuracy on one class, for example `test/top1.class.3`."""
    return f"{split}/top1.class.{class_index}"


EXPERIMENTS = "dyconv-ablations/"
"""The beginning of the names of all MLflow experiments of this project."""


def experiment_name(preset: str, dataset: str) -> str:
    """Return the name of the MLflow experiment that holds the runs of a preset on a data set."""
    return f"{EXPERIMENTS}{slug(preset)}/{slug(dataset)}"
