"""Put a layer kind of one's own through a study: does it need its kernels mixed for each image?

    python examples/own_layer.py [RUNS_DIR]

At preset smoke, so that it takes a minute: its numbers mean nothing. Take `preset="quick"` for some that do.
"""

from __future__ import annotations

import sys

from gated_layer import GatedConv2d

from dyconv.testing import check_layer
from runners import api


def main(runs_dir: str) -> None:
    """Check the layer, train networks of it, evaluate them under interventions, and print what came of it."""
    # Every fault of the layer at once, before anything is trained with it.
    print(check_layer(GatedConv2d, options={"sharpness": 2.0}))
    planned = api.plan(
        "aggregation",
        preset="smoke",
        # The kind reads no temperature, so that the networks of the study, which differ in theirs, are one.
        settings={"model.layer": "gated", "model.options.sharpness": 2.0, "train.epochs": 1},
        seed=0,
        runs_dir=runs_dir,
        plugins=["gated_layer"],
    )
    print(planned)
    summary = api.run(planned, dispatch="inline")
    if summary.failures:
        sys.exit(f"failed: {summary.failures[0].reason}")
    print(api.table(planned)[["variant", "n", "mean", "delta"]].to_string(index=False))
    print("report:", api.report(planned, formats=["html"])["html"])


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "runs")
