"""This module reads tracked files of correct test images as bits, and names the runs that are compared by them.

The layout of the file is described at `ablations.vocabulary.CORRECTNESS_FILE`; how files are fetched is in
`reports.collect.runs`. Legend: I images.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ablations.planning.plan import Plan
from ablations.spec.fingerprint import digest
from ablations.study import Study
from ablations.vocabulary import TEST_TOP1, TEST_TOP5

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


def read_correctness(text: str) -> Correctness:
    """Return the content of a tracked file.

    Raises:
        ValueError: If it is not such a file, or its content does not match its digest.
    """
    try:
        content = json.loads(text)
        # The digest is of the content without itself.
        expected = content.pop("sha256")
        images, bits = int(content["images"]), dict(content["bits"])
        packed = {str(metric): base64.b64decode(value, validate=True) for metric, value in bits.items()}
        data = (str(content["data_digest"]), str(content["order"]))
        # A bit per image, rounded up to whole bytes.
        is_complete = images > 0 and all(len(value) == -(-images // 8) for value in packed.values())
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
    return tuple(dict.fromkeys(key for keys in by_checkpoint.values() if len(keys) > 1 for key in keys))
