"""Plug-ins: what loading one makes known, how a broken one is named, which are installed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import pytest

import dyconv
from ablations.errors import AblationError, StudyError
from ablations.spec import names
from ablations.spec.parts import ModelSpec
from ablations.spec.trial import resolve
from runners import plugins
from runners.plugins import installed_plugins, load_plugins
from runners.training.network import build_network
from tests.registries import registries_kept

Write = Callable[[str, str], str]

MINE = """\
import dyconv
from torch import nn

@dyconv.register_aggregation("{prefix}_flat")
def flat(attention, context):
    return attention * 0 + 1 / attention.shape[1]

@dyconv.register_model("{prefix}_net", options=("dropout",))
def net(spec):
    convolutions = nn.Conv2d(spec.in_channels, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU()
    return nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, spec.num_classes))

CALLED = []

def register():
    CALLED.append(True)
"""


@pytest.fixture(autouse=True)
def _clean_registries(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    modules = set(sys.modules)
    with registries_kept():
        yield
    for name in set(sys.modules) - modules:
        if name.startswith("plugin_of_a_test"):
            del sys.modules[name]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a module into the current folder of the test and returns its name."""
    monkeypatch.chdir(tmp_path)

    def to_file(name: str, code: str) -> str:
        module = f"plugin_of_a_test_{name}"
        (tmp_path / f"{module}.py").write_text(code, encoding="utf-8")
        return module

    return to_file


def test_a_strategy_and_a_network_become_values_of_their_settings(write: Write) -> None:
    load_plugins([write("a", MINE.format(prefix="first"))])
    assert names.AGGREGATIONS["first_flat"] == "first flat"
    spec = resolve([], {"model.name": "first_net", "model.aggregation": "first_flat", "model.dropout": 0.1}, 0)
    assert (spec.model.width, spec.model.dropout) == (None, 0.1)
    where = {"name": ["2"]}
    model = build_network(ModelSpec.model_validate({**spec.model.model_dump(), "where": where}), spec.data.facts, 0)
    assert [name for name, _ in dyconv.dynamic_layers(model)] == ["2"]


def test_names_that_were_known_keep_their_titles(write: Write) -> None:
    before = dict(names.NETWORKS), dict(names.AGGREGATIONS)
    load_plugins([write("b", "")])
    assert before == (names.NETWORKS, names.AGGREGATIONS)


def test_loading_twice_is_loading_once(write: Write) -> None:
    module = write("c", MINE.format(prefix="twice"))
    load_plugins([module, module])
    load_plugins([module])
    assert "twice_flat" in names.AGGREGATIONS


def test_a_function_may_be_named(write: Write) -> None:
    module = write("d", MINE.format(prefix="called"))
    load_plugins([f"{module}:register"])
    assert sys.modules[module].CALLED == [True]


@pytest.mark.parametrize(
    ("code", "attribute", "reason"),
    [
        ("import no_such_module_anywhere", "", "ModuleNotFoundError: .*no_such_module_anywhere"),
        ("1 / 0", "", "ZeroDivisionError: division by zero"),
        ("def f(:", "", "SyntaxError"),
        ("", ":register", "AttributeError: .*register"),
        ("def register(): raise OSError('no disk')", ":register", "OSError: no disk"),
        ("import dyconv; dyconv.register_model('resnet18')(print)", "", "ModelError: .*'resnet18'"),
    ],
)
def test_a_plugin_that_cannot_be_loaded_is_named_with_its_error(
    write: Write, code: str, attribute: str, reason: str
) -> None:
    module = write("e", code)
    with pytest.raises(AblationError, match=rf"plug-in '{module}{attribute}' cannot be loaded: {reason}") as caught:
        load_plugins([f"{module}{attribute}"])
    assert caught.value.exit_code == 2


def test_an_error_in_our_own_words_stays_what_it_is(write: Write) -> None:
    code = "from ablations.registry import register_study; register_study(lambda base: None)"
    with pytest.raises(StudyError, match="needs a name"):
        load_plugins([write("f", code)])


def test_a_module_that_is_not_there_is_named() -> None:
    with pytest.raises(AblationError, match="plug-in 'no_such_module_anywhere' cannot be loaded: ModuleNotFoundError"):
        load_plugins(["no_such_module_anywhere"])


def test_nothing_is_loaded_without_a_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "_load", lambda name: pytest.fail(name))
    before = list(sys.path)
    load_plugins([])
    assert sys.path == before


def test_installed_plugins_are_the_entry_points_of_the_group(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [metadata.EntryPoint(name, value, plugins.GROUP) for name, value in (("b", "two:f"), ("a", "one"))]
    asked = []

    def entry_points(*, group: str) -> list[metadata.EntryPoint]:
        asked.append(group)
        return entries

    monkeypatch.setattr(metadata, "entry_points", entry_points)
    assert installed_plugins() == ("one", "two:f")
    assert asked == ["dyconv_ablations.plugins"]
