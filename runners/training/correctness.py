"""Which images a network classified correctly, as plain data that is kept with the run.

Evaluations of one checkpoint, or of several, are compared image by image (`reports.analysis.statistics`), so the order
must be one that all of them share: that of the split itself, not the random one in which it is measured. The layout of
the file is described at `ablations.vocabulary.CORRECTNESS_FILE`. Legend: N images.
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


def correctness(measured: Measurement, source: BatchSource, split: SplitName, fingerprint: str = "") -> dict[str, Any]:
    """Returns what was measured per image on a split of `source` for the node `fingerprint`, ready to be written."""
    # A plug-in's source may be older than this method; its order is fixed all the same.
    tells = hasattr(source, "evaluation_order")
    order = source.evaluation_order(split) if tells else np.arange(len(measured.labels))
    named = {f"{split}/top1": measured.correct, f"{split}/top5": measured.among_five}
    content: dict[str, Any] = {
        "split": split,
        "images": len(order),
        "data_digest": source.digest,
        "order": "data set" if tells else "evaluation",
        "bits": {name: _packed(bits, order) for name, bits in named.items() if bits is not None},
    }
    content |= {"fingerprint": fingerprint} if fingerprint else {}
    return {**content, "sha256": digest(content)}


def _packed(correct_N: Tensor, order_N: Int64Array) -> str:
    in_place_N = np.zeros(len(order_N), dtype=bool)
    in_place_N[order_N] = correct_N.numpy()
    return base64.b64encode(np.packbits(in_place_N).tobytes()).decode("ascii")
