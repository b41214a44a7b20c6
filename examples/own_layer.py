"""Put a layer kind of one's own through the studies: which of its parts does the work?

    python examples/own_layer.py [RUNS_DIR [STUDY...]]

Without a study all of them, on a few images: half a minute, and its numbers mean nothing. Take `preset="quick"` and
leave out FEW_IMAGES for some that do.
"""

from __future__ import annotations

import sys
from typing import Any

from gated_layer import GatedConv2d

from ablations.errors import AblationError
from ablations.registry import available_studies
from dyconv.testing import check_layer
from runners import api

LAYER: dict[str, Any] = {"model.layer": "gated", "model.options.sharpness": 2.0}
FEW_IMAGES = {"data.train_images": 32, "data.validation_images": 20, "data.test_images": 20}


def suitable(study: str, settings: dict[str, Any]) -> bool:
    """Return True if a study says something about the layer, and print why not where it does not."""
    try:
        api.plan(study, preset="smoke", settings=settings, plugins=["gated_layer"])
    except AblationError as error:
        print(f"{study}: {error}")
        return False
    return True


def main(runs_dir: str, studies: list[str]) -> None:
    """Check the layer, train and evaluate its networks in every study that it suits, and print what came of it."""
    # Every fault of the layer at once, before anything is trained with it.
    print(check_layer(GatedConv2d, options={"sharpness": 2.0}))
    settings = LAYER | FEW_IMAGES
    chosen = [study for study in studies if suitable(study, settings)]
    # One plan for all of them, so that networks which several studies need are trained once.
    planned = api.plan(*chosen, preset="smoke", settings=settings, seed=0, runs_dir=runs_dir, plugins=["gated_layer"])
    print(planned)
    summary = api.run(planned, dispatch="inline")
    if summary.failures:
        sys.exit(f"failed: {summary.failures[0].reason}")
    print(api.table(planned)[["study", "variant", "n", "mean", "delta"]].to_string(index=False))
    print("report:", api.report(planned, formats=["html"])["html"])


if __name__ == "__main__":
    folder = sys.argv[1] if len(sys.argv) > 1 else "runs"
    main(folder, sys.argv[2:] or list(available_studies()))
