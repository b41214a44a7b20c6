"""Loads plug-ins: modules of a user that register strategies, networks, layer kinds, data sets and studies.

They are named on the command line (`--plugin`) or installed as entry points of the group `dyconv_ablations.plugins`.
Launcher and workers load the same ones, since names that a spec mentions must be known in both. Results depend on a
plug-in's code: loading it records an identity of each registered name, and identities are part of fingerprints.
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
from typing import TYPE_CHECKING, Any

from ablations.datasets import registry as datasets
from ablations.errors import AblationError, PluginError
from ablations.planning.nodes import Node, plugins_of
from ablations.spec.identities import Identity, PluginKind, as_json, check_unchanged, forget_identity, record_identity
from ablations.spec.layers import BUILT_IN_LAYERS, LayerKind, LayerOption
from ablations.spec.names import BUILT_IN_AGGREGATIONS, BUILT_IN_NETWORKS, Network, add_aggregation, add_network
from ablations.spec.settings import add_layer
from runners.code_identity import plugin_digest

if TYPE_CHECKING:
    import dyconv

GROUP = "dyconv_ablations.plugins"

_OWN = ("ablations", "dyconv", "runners", "reports")
_REGISTERS = {
    "strategy": "register_aggregation",
    "network": "register_model",
    "layer": "register_layer",
    "data set": "register_loader",
}

_called: dict[str, ModuleType] = {}
"""Functions named by plug-ins (`module:function`) that were called, each with the module as it was loaded then."""

_identified: dict[tuple[PluginKind, str], tuple[object, Identity]] = {}
"""The identified objects and their identities. A module may be loaded again in another form, with other objects."""


def installed_plugins() -> tuple[str, ...]:
    """Return the modules that installed packages offer as plug-ins."""
    return tuple(sorted(entry.value for entry in metadata.entry_points(group=GROUP)))


def load_plugins(plugins: Sequence[str]) -> None:
    """Import plug-ins, also from the current folder, and make the names that they register known to specs.

    Raises:
        AblationError: If one cannot be imported; the message contains its own error.
        PluginError: If the code of a registered object cannot be read and it has no version.
    """
    if not plugins:
        return
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    import dyconv

    # Registries do not know who registers: whatever is new after an import belongs to that plug-in.
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
    for layer in dyconv.available_layers():
        if layer not in BUILT_IN_LAYERS:
            add_layer(layer, _layer_facts(dyconv.layer_kind(layer)))
    _identify(origins)


def _layer_facts(kind: dyconv.LayerKind) -> LayerKind:
    """Return what planning needs to know of a plug-in's layer kind."""
    options = []
    for option in kind.options:
        options.append(LayerOption(option.name, option.default, option.low, option.high, option.choices))
    # Which convolutions become dynamic is the network's conversion to decide, whatever the kind.
    return LayerKind(kind.title, kind.reads | {"where"}, tuple(options))


def check_plugins(node: Node, described: Mapping[str, Any] | None) -> None:
    """Check that the plug-ins of a node are those with which it was planned.

    Args:
        node: The node, as this process sees it.
        described: The description that the launcher wrote.

    Raises:
        PluginError: If they differ.
    """
    check_unchanged((described or {}).get("plugins"), as_json(plugins_of(node).values()))


def _load(name: str) -> None:
    module, _, attribute = name.partition(":")
    folder = os.getcwd()
    try:
        plugin = importlib.import_module(module)
        # A worker carries out many tasks, and a function that is called twice would register its names twice.
        if attribute and _called.get(name) is not plugin:
            getattr(plugin, attribute)()
            _called[name] = plugin
    except AblationError:
        raise
    except Exception as error:
        raise AblationError(f"plug-in {name!r} cannot be loaded: {type(error).__name__}: {error}") from error
    finally:
        # Relative paths of the command line are meant from where it was started.
        os.chdir(folder)


_Entry = tuple[PluginKind, str, object, str | int | None]
"""Kind, name, registered object, and the version that the user gives it."""


def _registered() -> Iterator[_Entry]:
    """Yield the entries of plug-ins: names that are not the project's, and names of it that stand for other code."""
    import dyconv

    aggregation, models, kinds = dyconv.aggregation, dyconv.networks.models, dyconv.layers.kinds
    for name in aggregation.available_aggregations():
        strategy = aggregation.get_aggregation(name)
        if name not in BUILT_IN_AGGREGATIONS or not _is_ours(strategy):
            yield "strategy", name, strategy, aggregation.aggregation_version(name)
    for name in models.available_models():
        builder = models.model_builder(name)
        if name not in BUILT_IN_NETWORKS or not _is_ours(builder):
            yield "network", name, builder, models.model_version(name)
    for name in kinds.available_layers():
        kind = kinds.layer_kind(name)
        if name not in BUILT_IN_LAYERS or not _is_ours(kind.layer):
            yield "layer", name, kind.layer, kind.version
    registry: Any = sys.modules.get("runners.data.registry")
    for name in datasets.available_datasets():
        opener = version = None
        if registry is not None:
            opener, version = registry.opener_of(name), registry.data_version(name)
        if name not in datasets.BUILT_IN or (opener is not None and not _is_ours(opener)):
            yield "data set", name, opener, version


def _is_ours(registered: object) -> bool:
    registered = getattr(registered, "func", registered)
    return str(getattr(registered, "__module__", "")).partition(".")[0] in _OWN


def _identify(origins: dict[tuple[PluginKind, str], str]) -> None:
    """Record the identity of every entry of plug-ins, and forget those that are not registered any more."""
    entries = list(_registered())
    by_name: dict[str, object] = {}
    registered_names: set[tuple[PluginKind, str]] = set()
    for kind, name, registered, _ in entries:
        registered_names.add((kind, name))
        # A name of a strategy or network in code reaches it; data sets count by their content.
        if kind != "data set":
            by_name[name] = registered
    for kind, name in _identified.keys() - registered_names:
        del _identified[kind, name]
        forget_identity(kind, name)
    for kind, name, registered, version in entries:
        recorded = _identified.get((kind, name))
        if recorded is not None and recorded[0] is registered:
            continue
        identity = Identity(kind, name, "", origins[kind, name])
        code = _code(identity, registered, version, by_name)
        identity = Identity(kind, name, code, identity.plugin)
        _identified[kind, name] = (registered, identity)
        record_identity(identity)


def _code(identity: Identity, registered: object, version: str | int | None, by_name: dict[str, object]) -> str:
    if version is not None:
        return f"version {version}"
    if identity.kind == "data set":
        return _facts_digest(identity.name)
    try:
        return plugin_digest(registered, identity.plugin, by_name)
    except PluginError as error:
        register = _REGISTERS[identity.kind]
        raise PluginError(
            f"{identity.label} of plug-in {identity.plugin!r}: {error}. Say which version it is, and change that with "
            f"the code: {register}({identity.name!r}, version=1)."
        ) from error


def _facts_digest(name: str) -> str:
    """Return a digest of the facts of a data set that its content does not determine: shapes, and the split of folders.

    The content is a part of fingerprints by itself, whatever code reads it.
    """
    if name in datasets.DATASETS:
        facts = datasets.DATASETS[name]
        values: Any = [facts.num_classes, facts.channels, facts.image_size]
    else:
        folder = datasets.FOLDERS[name]
        expected = folder.expected
        values = [folder.image_size, expected.validation_images if expected is not None else None]
    return hashlib.sha256(json.dumps(values).encode("ascii")).hexdigest()
