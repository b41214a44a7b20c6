"""Takes back what a test registers, in every registry at once: a name in one alone misleads the tests after it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ablations.datasets import registry as datasets
from ablations.spec import identities, layers, names, settings
from dyconv import aggregation
from dyconv.checkpoints import layouts
from dyconv.layers import kinds
from dyconv.networks import models
from runners import plugins
from runners.data import registry

REGISTRIES: tuple[dict[Any, Any], ...] = (
    names.AGGREGATIONS,
    names.NETWORKS,
    layers.LAYERS,
    settings.DEFAULTS,
    aggregation._STRATEGIES,
    aggregation._VERSIONS,
    models._BUILDERS,
    kinds._KINDS,
    layouts._LAYOUTS,
    datasets.DATASETS,
    datasets.FOLDERS,
    datasets._CONTENTS,
    registry._LOADERS,
    registry._SOURCES,
    registry._VERSIONS,
    plugins._identified,
    plugins._called,
    identities._IDENTITIES,
)


class KeptRegistries:
    """The content of every registry at one moment."""

    def __init__(self) -> None:
        self._contents = [dict(each) for each in REGISTRIES]

    def restore(self) -> None:
        """Put the content back; data sets that were loaded under a name are forgotten too."""
        for each, before in zip(REGISTRIES, self._contents, strict=True):
            each.clear()
            each.update(before)
        registry._load_once.cache_clear()


@contextmanager
def registries_kept() -> Iterator[None]:
    """Give every registry its content back at the end."""
    kept = KeptRegistries()
    try:
        yield
    finally:
        kept.restore()
