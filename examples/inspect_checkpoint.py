"""Ask of somebody's checkpoint whether it needs its kernels mixed for each image, without training anything.

    python examples/inspect_checkpoint.py WEIGHTS [RUNS_DIR]

WEIGHTS holds a DY-MobileNetV2 ×0.35 of depth 0.5 with four kernels, for grey images of ten classes, as preset smoke has
it, in the layout of any project that docs/networks.md lists. For another network or other data, change the settings. No
code in the file is run.
"""

from __future__ import annotations

import sys

import dyconv
from runners import api

DYNAMIC = {"not": {"role": ["stem", "head"]}}
"""All convolutions but the first and the last, as in the paper; studies have it so unless `model.where` says else."""


def main(weights: str, runs_dir: str) -> None:
    """Print how the weights were read, what the network does under interventions, and what its layers cost."""
    # First alone, to see that every tensor has found its place. Few files hold the temperature of their softmax.
    model = dyconv.build_model("mobilenet_v2", 10, width=0.35, depth=0.5, in_channels=1, num_kernels=4, where=DYNAMIC)
    report = dyconv.load_checkpoint(model, weights, temperature=1.0)
    print("\n".join(str(report).splitlines()[:3]))
    planned = api.plan(
        "aggregation",
        "attention_profile",
        "cost",
        preset="smoke",
        settings={"inspect": weights, "inspect.temperature": 1.0},
        runs_dir=runs_dir,
    )
    print(planned)
    summary = api.run(planned, dispatch="inline")
    if summary.failures:
        sys.exit(f"failed: {summary.failures[0].reason}")
    results = api.results(planned)
    print(results.loc[results["study"] == "aggregation", ["variant", "test/top1"]].to_string(index=False))
    print(results.loc[results["study"] == "cost", ["variant", "cost/parameters"]].to_string(index=False))
    print("report:", api.report(planned, formats=["html"])["html"])


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "runs")
