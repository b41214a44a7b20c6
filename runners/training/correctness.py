"""This module packs the correctness of each image as plain data, which is kept with the run.

Reports compare evaluations image by image (`reports.analysis.statistics`), so the order is that of the split itself,
not the random one of the measurement. `ablations.vocabulary.CORRECTNESS_FILE` describes the layout of the file. Legend:
N images.
"""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from torch import Tensor

from ablations.spec.fingerprint import digest
from runners.data import BatchSource, SplitName
from runners.data.hashing import Int64Array
from runners.training.evaluation import Measurement


def correctness(
    measurement: Measurement, source: BatchSource, split: SplitName, fingerprint: str = ""
) -> dict[str, Any]:
    """Return the correctness per image on a split of `source` for the node `fingerprint`, as data for its file."""
    # The source of a plug-in may lack this newer method; its order is fixed all the same.
    if hasattr(source, "evaluation_order"):
        order, order_name = source.evaluation_order(split), "data set"
    else:
        order, order_name = np.arange(len(measurement.labels)), "evaluation"
    bits = {f"{split}/top1": _packed(measurement.correct, order)}
    if measurement.among_five is not None:
        bits[f"{split}/top5"] = _packed(measurement.among_five, order)
    content: dict[str, Any] = {
        "split": split,
        "images": len(order),
        "data_digest": source.digest,
        "order": order_name,
        "bits": bits,
    }
    if fingerprint:
        content["fingerprint"] = fingerprint
    return {**content, "sha256": digest(content)}


def _packed(correct_N: Tensor, order_N: Int64Array) -> str:
    # From the order of evaluation back to the order of the split, then eight images to a byte.
    in_split_order_N = np.zeros(len(order_N), dtype=bool)
    in_split_order_N[order_N] = correct_N.numpy()
    return base64.b64encode(np.packbits(in_split_order_N).tobytes()).decode("ascii")
