"""Plug-ins: a user's modules that register strategies, networks, data sets and studies.

They are named on the command line (`--plugin`) or installed as entry points of the group `dyconv_ablations.plugins`.
Launcher and workers load the same ones, since names that a spec mentions must be known in both.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from importlib import metadata

from ablations.errors import AblationError
from ablations.names import Network, add_aggregation, add_network

GROUP = "dyconv_ablations.plugins"


def installed_plugins() -> tuple[str, ...]:
    """Returns the modules that installed packages offer as plug-ins."""
    return tuple(sorted(entry.value for entry in metadata.entry_points(group=GROUP)))


def load_plugins(plugins: Sequence[str]) -> None:
    """Imports plug-ins, from the current folder too, and makes the names they register known to specs.

    Raises:
        AblationError: If one cannot be imported, with its own error.
    """
    if not plugins:
        return
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    for name in plugins:
        _load(name)
    import dyconv

    for aggregation in dyconv.available_aggregations():
        add_aggregation(aggregation)
    for model in dyconv.available_models():
        # Every builder is given the stride of the stem; the other options are those that it names.
        add_network(model, Network(title=model, options=dyconv.model_options(model) | {"stem_stride"}))


def _load(name: str) -> None:
    module, _, attribute = name.partition(":")
    folder = os.getcwd()
    try:
        loaded = importlib.import_module(module)
        if attribute:
            getattr(loaded, attribute)()
    except AblationError:
        raise
    except Exception as error:
        raise AblationError(f"plug-in {name!r} cannot be loaded: {type(error).__name__}: {error}") from error
    finally:
        # Relative paths of the command line are meant from where it was started.
        os.chdir(folder)
