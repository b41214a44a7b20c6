"""Plug-ins: a user's modules that register strategies, networks, data sets and studies.

They are named on the command line (`--plugin`) or installed as entry points of the group `dyconv_ablations.plugins`.
Launcher and workers load the same ones, since names that a spec mentions must be known in both. What a plug-in computes
belongs to what it has registered: loading it records an identity of each name, which is part of fingerprints.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from types import ModuleType
from typing import Any

from ablations.datasets import registry as datasets
from ablations.errors import AblationError, PluginError
from ablations.planning.nodes import Node, plugins_of
from ablations.spec.identities import Identity, Kind, as_json, check_unchanged, forget_identity, record_identity
from ablations.spec.names import BUILT_IN_AGGREGATIONS, BUILT_IN_NETWORKS, Network, add_aggregation, add_network
from runners.code_identity import code_digest

GROUP = "dyconv_ablations.plugins"

_OWN = ("ablations", "dyconv", "runners", "reports")
_REGISTERS = {"strategy": "register_aggregation", "network": "register_model", "data set": "register_loader"}

_called: dict[str, ModuleType] = {}
"""The functions that plug-ins name (`module:function`) and that were called, with the module as it was loaded then."""

_identified: dict[tuple[Kind, str], tuple[object, Identity]] = {}
"""What is identified already, with the object that was: a module may be loaded again in another form."""


def installed_plugins() -> tuple[str, ...]:
    """Returns the modules that installed packages offer as plug-ins."""
    return tuple(sorted(entry.value for entry in metadata.entry_points(group=GROUP)))


def load_plugins(plugins: Sequence[str]) -> None:
    """Imports plug-ins, from the current folder too, and makes the names they register known to specs.

    Raises:
        AblationError: If one cannot be imported, with its own error.
        PluginError: If the code of something that one registers cannot be read and it has no version.
    """
    if not plugins:
        return
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    import dyconv

    origins = {key: identity.plugin for key, (_, identity) in _identified.items()}
    for name in plugins:
        _load(name)
        module = name.partition(":")[0]
        for kind, registered, _, _ in _registered():
            origins.setdefault((kind, registered), module)
    for aggregation in dyconv.available_aggregations():
        add_aggregation(aggregation)
    for model in dyconv.available_models():
        # Every builder is given the stride of the stem; the other options are those that it names.
        add_network(model, Network(title=model, options=dyconv.model_options(model) | {"stem_stride"}))
    _identify(origins)


def check_plugins(node: Node, described: Mapping[str, Any] | None) -> None:
    """Holds the plug-ins that a node needs against those with which it was planned.

    Args:
        node: The node, as it is here.
        described: What the launcher wrote down of it.

    Raises:
        PluginError: They differ.
    """
    check_unchanged((described or {}).get("plugins"), as_json(plugins_of(node).values()))


def _load(name: str) -> None:
    module, _, attribute = name.partition(":")
    folder = os.getcwd()
    try:
        loaded = importlib.import_module(module)
        # A worker is given many tasks, and what is called twice registers its names twice.
        if attribute and _called.get(name) is not loaded:
            getattr(loaded, attribute)()
            _called[name] = loaded
    except AblationError:
        raise
    except Exception as error:
        raise AblationError(f"plug-in {name!r} cannot be loaded: {type(error).__name__}: {error}") from error
    finally:
        # Relative paths of the command line are meant from where it was started.
        os.chdir(folder)


_Entry = tuple[Kind, str, object, str | int | None]
"""Kind, name, what is registered, and the version that the user gives it."""


def _registered() -> Iterator[_Entry]:
    """Yields what plug-ins have registered: each name that is not the project's, or is but stands for other code."""
    from dyconv import aggregation
    from dyconv.networks import models

    for name in aggregation.available_aggregations():
        strategy = aggregation.get_aggregation(name)
        if name not in BUILT_IN_AGGREGATIONS or not _is_ours(strategy):
            yield "strategy", name, strategy, aggregation.aggregation_version(name)
    for name in models.available_models():
        builder = models.model_builder(name)
        if name not in BUILT_IN_NETWORKS or not _is_ours(builder):
            yield "network", name, builder, models.model_version(name)
    registry: Any = sys.modules.get("runners.data.registry")
    for name in datasets.available_datasets():
        opener = registry.opener_of(name) if registry is not None else None
        if name not in datasets.BUILT_IN or (opener is not None and not _is_ours(opener)):
            version = registry.data_version(name) if registry is not None else None
            yield "data set", name, opener, version


def _is_ours(registered: object) -> bool:
    registered = getattr(registered, "func", registered)
    return str(getattr(registered, "__module__", "")).partition(".")[0] in _OWN


def _identify(origins: dict[tuple[Kind, str], str]) -> None:
    """Records the identity of everything that plug-ins have registered."""
    entries = list(_registered())
    others = {name: registered for kind, name, registered, _ in entries if kind != "data set"}
    for kind, name in _identified.keys() - {(kind, name) for kind, name, _, _ in entries}:
        del _identified[kind, name]
        forget_identity(kind, name)
    for kind, name, registered, version in entries:
        known = _identified.get((kind, name))
        if known is not None and known[0] is registered:
            continue
        identity = Identity(kind, name, "", origins[kind, name])
        code = _code(identity, registered, version, others)
        identity = Identity(kind, name, code, identity.plugin)
        _identified[kind, name] = (registered, identity)
        record_identity(identity)


def _code(identity: Identity, registered: object, version: str | int | None, others: dict[str, object]) -> str:
    if version is not None:
        return f"version {version}"
    if identity.kind == "data set":
        return _facts_digest(identity.name)
    try:
        return code_digest(registered, identity.plugin, others)
    except PluginError as error:
        register = _REGISTERS[identity.kind]
        raise PluginError(
            f"{identity.label} of plug-in {identity.plugin!r}: {error}. Say which version it is, and change that with "
            f"the code: {register}({identity.name!r}, version=1)."
        ) from error


def _facts_digest(name: str) -> str:
    """Returns a digest of what a data set's facts say that its content does not: shapes, and how folders are split.

    The content is a part of fingerprints of its own, whatever code reads it.
    """
    if name in datasets.DATASETS:
        facts = datasets.DATASETS[name]
        told: Any = [facts.num_classes, facts.channels, facts.image_size]
    else:
        folder = datasets.FOLDERS[name]
        expected = folder.expected
        told = [folder.image_size, expected.validation_images if expected is not None else None]
    return hashlib.sha256(json.dumps(told).encode("ascii")).hexdigest()
