"""Which test images a run got right: a tracked file → bits, and which runs of a plan are compared by them.

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

from ablations.planning.nodes import EvaluationNode
from ablations.planning.plan import Plan
from ablations.spec.fingerprint import digest
from ablations.study import Study
from ablations.vocabulary import TEST_TOP1, TEST_TOP5

PER_IMAGE = frozenset({TEST_TOP1, TEST_TOP5})
"""Metrics that are a share of images: those that can be compared image by image."""

_SAME = 1e-6


@dataclass(frozen=True)
class Correctness:
    """Which images of the test split a run classified correctly, in an order that runs on the same data share.

    Attributes:
        images: How many images there are, I.
        data: What the order depends on: digest of the data, and whether it is the data set's own order.
        digest: SHA-256 of the file's content.
        packed: Per metric a bit per image, packed from the most significant on.
    """

    images: int
    data: tuple[str, str]
    digest: str
    packed: Mapping[str, bytes]

    def of(self, metric: str) -> npt.NDArray[np.uint8]:
        """Returns 1 for each image that counts under `metric`, and 0 for the others: (I,)."""
        return np.unpackbits(np.frombuffer(self.packed[metric], dtype=np.uint8), count=self.images)

    def check(self, metrics: Mapping[str, float]) -> None:
        """Holds the bits against the accuracies that were tracked beside them.

        Raises:
            ValueError: One is another.
        """
        for metric in self.packed.keys() & metrics.keys():
            share = float(self.of(metric).mean()) * 100
            if abs(share - metrics[metric]) > _SAME:
                raise ValueError(f"its {metric} is {share:.6g}, tracked is {metrics[metric]:.6g}")


def read_correctness(text: str) -> Correctness:
    """Returns what a tracked file says.

    Raises:
        ValueError: If it is not such a file, or its content is not what its digest was made of.
    """
    try:
        content = json.loads(text)
        told = content.pop("sha256")
        images, bits = int(content["images"]), dict(content["bits"])
        packed = {str(metric): base64.b64decode(value, validate=True) for metric, value in bits.items()}
        data = (str(content["data_digest"]), str(content["order"]))
        whole = images > 0 and all(len(value) == -(-images // 8) for value in packed.values())
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"no list of correct images ({type(error).__name__}: {error})") from None
    if not whole or digest(content) != told:
        raise ValueError("its content is not what its digest was made of")
    return Correctness(images, data, str(told), packed)


def checkpoint_of(plan: Plan, fingerprint: str) -> str:
    """Returns the fingerprint of the training whose checkpoint a node measures: its own, if it is one."""
    node = plan.node(fingerprint)
    return node.trial.fingerprint if isinstance(node, EvaluationNode) else fingerprint


def compared_by_image(study: Study, plan: Plan) -> tuple[str, ...]:
    """Returns the nodes of a study whose checkpoint is measured in several of its rows, under a metric per image."""
    if study.metric not in PER_IMAGE:
        return ()
    by_checkpoint: dict[tuple[str, str], dict[str, None]] = {}
    for cell in plan.cells_of(study.name):
        place = (cell.network, checkpoint_of(plan, cell.fingerprint))
        by_checkpoint.setdefault(place, {})[cell.fingerprint] = None
    return tuple(dict.fromkeys(key for keys in by_checkpoint.values() if len(keys) > 1 for key in keys))
