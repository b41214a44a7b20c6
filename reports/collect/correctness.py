"""This module reads tracked files of correct test images as bits, and names the runs that are compared by them.

The layout of the file is described at `ablations.vocabulary.CORRECTNESS_FILE`. Legend: I images.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ablations.planning.plan import Plan
from ablations.spec.fingerprint import digest
from ablations.study import Study
from ablations.vocabulary import CORRECTNESS_FILE, TAG_CORRECTNESS, TEST_TOP1, TEST_TOP5
from reports.collect.identity import check_owner

if TYPE_CHECKING:
    # What compares rows by these bits needs no MLflow.
    from reports.collect.stores.base import Store
    from reports.collect.tracked_runs import TrackedRun

PER_IMAGE = frozenset({TEST_TOP1, TEST_TOP5})
"""Metrics that are a share of images: those that can be compared image by image."""

_SAME = 1e-6


@dataclass(frozen=True)
class Correctness:
    """The images of the test split that a run classified correctly, in an order that runs on the same data share.

    Attributes:
        images: Number of images, I.
        data: The digest of the data and the name of the order, on which the order of the images depends.
        digest: SHA-256 of the file's content.
        packed: Per metric a bit per image, packed from the most significant on.
    """

    images: int
    data: tuple[str, str]
    digest: str
    packed: Mapping[str, bytes]

    def of(self, metric: str) -> npt.NDArray[np.uint8]:
        """Return 1 for each image that counts under `metric`, and 0 for the others: (I,)."""
        return np.unpackbits(np.frombuffer(self.packed[metric], dtype=np.uint8), count=self.images)

    def check(self, metrics: Mapping[str, float]) -> None:
        """Compare the bits with the accuracies that were tracked beside them.

        Raises:
            ValueError: If an accuracy differs.
        """
        for metric in self.packed.keys() & metrics.keys():
            share = float(self.of(metric).mean()) * 100
            if abs(share - metrics[metric]) > _SAME:
                raise ValueError(f"its {metric} is {share:.6g}, tracked is {metrics[metric]:.6g}")


def correct_images(store: Store, runs: Sequence[TrackedRun]) -> tuple[dict[str, Correctness], list[str]]:
    """Return the correct images of those runs that have them, by fingerprint, and sentences on the unreadable ones."""
    correctness: dict[str, Correctness] = {}
    unreadable = []
    tracked = [run for run in runs if TAG_CORRECTNESS in run.tags]
    for run, outcome in zip(tracked, store.read_each(_read, tracked), strict=True):
        if isinstance(outcome, Correctness):
            correctness[run.fingerprint] = outcome
        else:
            unreadable.append(f"{CORRECTNESS_FILE} of run {run.run_id} is left out: {outcome}.")
    return correctness, unreadable


def _read(store: Store, run: TrackedRun) -> Correctness | str:
    """Return the correct images of a run, or the reason why they are left out."""
    try:
        text = store.artifact(run, CORRECTNESS_FILE)
        correctness = read_correctness(text)
        check_owner(text, run.fingerprint)
        if correctness.digest != run.tags[TAG_CORRECTNESS]:
            raise ValueError("it is not the file that was tracked")
        correctness.check(run.metrics)
    except (OSError, ValueError) as error:
        return (isinstance(error, OSError) and error.strerror) or str(error).splitlines()[0]
    return correctness


def read_correctness(text: str) -> Correctness:
    """Return the content of a tracked file.

    Raises:
        ValueError: If it is not such a file, or its content does not match its digest.
    """
    try:
        content = json.loads(text)
        # The digest is of the content without itself.
        expected = content.pop("sha256")
        images = int(content["images"])
        is_complete = images > 0
        packed: dict[str, bytes] = {}
        for metric, text_bits in dict(content["bits"]).items():
            bits = packed[str(metric)] = base64.b64decode(text_bits, validate=True)
            # A bit per image, rounded up to whole bytes.
            is_complete = is_complete and len(bits) == -(-images // 8)
        data = (str(content["data_digest"]), str(content["order"]))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"no list of correct images ({type(error).__name__}: {error})") from None
    if not is_complete or digest(content) != expected:
        raise ValueError("its content is not what its digest was made of")
    return Correctness(images, data, str(expected), packed)


def checkpoint_of(plan: Plan, fingerprint: str) -> str:
    """Return the fingerprint of the training whose checkpoint a node measures: its own, if it is one."""
    return plan.node(fingerprint).checkpoint


def compared_by_image(study: Study, plan: Plan) -> tuple[str, ...]:
    """Return the nodes of a study whose checkpoint is measured in several of its rows, under a metric per image."""
    if study.metric not in PER_IMAGE:
        return ()
    by_checkpoint: dict[tuple[str, str], dict[str, None]] = {}
    for cell in plan.cells_of(study.name):
        # Rows are compared on one inspected network, so that the network is part of the key.
        checkpoint = (cell.network, checkpoint_of(plan, cell.fingerprint))
        by_checkpoint.setdefault(checkpoint, {})[cell.fingerprint] = None
    # A dictionary keeps the plan's order, which a set would not.
    compared: dict[str, None] = {}
    for fingerprints in by_checkpoint.values():
        if len(fingerprints) > 1:
            compared |= fingerprints
    return tuple(compared)
