"""What changes the identity of a plug-in's code, and what does not."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import dyconv
from ablations.datasets import DatasetFacts, register_dataset
from ablations.errors import PluginError
from runners.code_identity import plugin_digest
from runners.code_identity.library_names import original_name

Digest = Callable[..., str]
_NAME = "coded_plugin_of_a_test"
_HELPER = "coded_helper_of_a_test"

PLUGIN = f"""\
import math
from {_HELPER} import scale

FACTOR = 2
UNUSED = 5

def halve(x):
    return x / FACTOR

class Cut:
    share = 0.5
    def __call__(self, x):
        return x * self.share

def strategy(x):
    return scale(halve(x)) + Cut()(x)

def other(x):
    return x * UNUSED
"""
HELPER = """\
BASE = 3

def scale(x):
    return x * BASE

def unrelated(x):
    return x
"""


@pytest.fixture
def digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Digest]:
    """Writes modules, loads the plug-in afresh and returns the digest of one of its objects."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def of(code: str, name: str = "strategy", **helpers: str) -> str:
        _forget()
        for module, text in {_NAME: code, _HELPER: HELPER, **helpers}.items():
            path = tmp_path / f"{module.replace('.', '/')}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        importlib.invalidate_caches()
        sys.dont_write_bytecode = True
        loaded: Any = importlib.import_module(_NAME)
        return plugin_digest(getattr(loaded, name), _NAME)

    before = sys.dont_write_bytecode
    yield of
    sys.dont_write_bytecode = before
    _forget()


@pytest.fixture(autouse=True)
def restored_math(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give `math` its numbers back: plug-ins of these tests write into it, and later tests count with them."""
    for name in ("pi", "e", "tau"):
        monkeypatch.setattr(math, name, getattr(math, name))


def _forget() -> None:
    for name in [name for name in sys.modules if name.startswith(("coded_",))]:
        del sys.modules[name]


def changed(code: str, old: str, new: str) -> str:
    """Returns some code with one change."""
    assert old in code
    return code.replace(old, new)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("import math", "# a comment\nimport math"),
        ("def halve(x):\n", "def halve(x):\n    '''Halve.'''\n\n"),
        ("x / FACTOR", "(x   /   FACTOR)  # half"),
        ("UNUSED = 5", "UNUSED = 6"),
        ("return x * UNUSED", "return x + UNUSED"),
        ("import math", "import math\nif __name__ == '__main__':\n    print(1)"),
        ("def other(x):", "def third(x):\n    return 3\n\ndef other(x):"),
    ],
)
def test_what_changes_no_result_changes_no_digest(digest: Digest, old: str, new: str) -> None:
    assert digest(PLUGIN) == digest(changed(PLUGIN, old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("FACTOR = 2", "FACTOR = 4"),
        ("x / FACTOR", "x // FACTOR"),
        ("share = 0.5", "share = 0.25"),
        ("x * self.share", "x - self.share"),
        ("scale(halve(x)) +", "scale(halve(x)) -"),
        ("UNUSED = 5", "UNUSED = 5\nFACTOR += 1"),
        ("UNUSED = 5", "UNUSED = 5\nmath.pi = 3"),
        ("UNUSED = 5", "UNUSED = 5\nsetattr(math, 'e', 2)"),
        ("class Cut:", "class Cut(dict):"),
        ("def other(x):", "Cut.share = 1\ndef other(x):"),
    ],
)
def test_what_may_change_a_result_changes_the_digest(digest: Digest, old: str, new: str) -> None:
    assert digest(PLUGIN) != digest(changed(PLUGIN, old, new))


def test_a_helper_counts_as_far_as_it_is_reached(digest: Digest) -> None:
    before = digest(PLUGIN)
    assert digest(PLUGIN, **{_HELPER: changed(HELPER, "BASE = 3", "BASE = 4")}) != before
    assert digest(PLUGIN, **{_HELPER: changed(HELPER, "return x\n", "return -x\n")}) == before
    assert digest(PLUGIN, **{_HELPER: f"{HELPER}\nimport math\nmath.tau = 6\n"}) != before


@pytest.mark.parametrize(
    "code",
    [
        f"import {_HELPER}\ndef strategy(x):\n    return {_HELPER}.scale(x)\n",
        f"import {_HELPER} as h\nstrategy = lambda x: h.scale(x)\n",
        f"from {_HELPER} import *\ndef strategy(x):\n    return scale(x)\n",
        f"def strategy(x):\n    from {_HELPER} import scale\n    return scale(x)\n",
        f"import importlib\ndef strategy(x):\n    return importlib.import_module('{_HELPER}').scale(x)\n",
        f"import functools\nfrom {_HELPER} import scale\nstrategy = functools.partial(scale)\n",
        f"from {_HELPER} import scale as strategy\n",
        "import coded_middle\ndef strategy(x):\n    return coded_middle.through(x)\n",
        f"from {_HELPER} import scale\ndef strategy(x):\n    return globals()['sc' + 'ale'](x)\n",
    ],
)
def test_a_helper_is_reached_however_it_is_imported(digest: Digest, code: str) -> None:
    middle = f"from {_HELPER} import scale\ndef through(x):\n    return scale(x)\n"
    before = digest(code, coded_middle=middle)
    assert digest(code, coded_middle=middle) == before
    assert digest(code, coded_middle=middle, **{_HELPER: changed(HELPER, "BASE = 3", "BASE = 4")}) != before


def test_a_package_and_what_it_imports_from_itself_are_the_users_own(digest: Digest) -> None:
    code = "from coded_package.inner import strategy\n"
    inner = "from . import deep\nfrom .deep import CONSTANT\ndef strategy(x):\n    return deep.f(x) + CONSTANT\n"
    deep = "CONSTANT = 1\ndef f(x):\n    return x\n"
    files = {"coded_package.__init__": "", "coded_package.inner": inner, "coded_package.deep": deep}
    before = digest(code, **files)
    assert digest(code, **{**files, "coded_package.deep": changed(deep, "return x", "return -x")}) != before
    assert digest(code, **{**files, "coded_package.__init__": "import math\nmath.e = 3\n"}) != before
    assert digest(code, **{**files, "coded_package.__init__": "# nothing\n"}) == before


_TWO = "f.partial(make, 2)"
FACTORY = "def make(k):\n    def strategy(x):\n        return x * k\n    return strategy\n"


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("strategy = make(1)", "strategy = make(2)"),
        ("import os\nstrategy = make(os.environ.get('CODED', 1))", "import os\nstrategy = make([2, {'a': 3}])"),
        ("import functools as f\nstrategy = f.partial(make, 1)", "import functools as f\nstrategy = " + _TWO),
        ("strategy = [lambda x: x, lambda x: -x][0]", "strategy = [lambda x: x, lambda x: -x][1]"),
        ("import torch\nstrategy = make(torch.ones(3))", "import torch\nstrategy = make(torch.zeros(3))"),
        ("strategy = make(lambda x: x)", "strategy = make(lambda x: x + 1)"),
    ],
)  # fmt: skip
def test_what_a_closure_holds_counts(digest: Digest, one: str, two: str) -> None:
    assert digest(f"{FACTORY}{one}\n") == digest(f"{FACTORY}{one}\n")
    assert digest(f"{FACTORY}{one}\n") != digest(f"{FACTORY}{two}\n")


WRAPPED = """\
import functools
import torch

def noisy(function):
    @functools.wraps(function)
    def wrapper(x):
        return function(x) + 1
    return wrapper

class Net(torch.nn.Module):
    def forward(self, x):
        return x + 1

{decorator}
def strategy(x):
    return x * 2
"""


@pytest.mark.parametrize("decorator", ["@noisy", "@torch.no_grad()", "@functools.lru_cache", "@torch.jit.ignore"])
def test_a_decorated_function_is_what_it_decorates(digest: Digest, decorator: str) -> None:
    code = WRAPPED.format(decorator=decorator)
    before = digest(code)
    assert digest(code) == before
    assert digest(changed(code, "x * 2", "x * 3")) != before


def test_a_decorator_of_the_users_own_counts(digest: Digest) -> None:
    code = WRAPPED.format(decorator="@noisy")
    assert digest(code) != digest(changed(code, "function(x) + 1", "function(x) + 2"))


def test_a_class_counts_with_its_bases(digest: Digest) -> None:
    code = "class Base:\n    def f(self):\n        return 1\n\nclass strategy(Base):\n    pass\n"
    assert digest(code) != digest(changed(code, "return 1", "return 2"))


REGISTRY = """\
TABLE = {}

def entry(name):
    def keep(function):
        TABLE[name] = function
        return function
    return keep

@entry("a")
def first(x):
    return x + 1

def strategy(x):
    return TABLE["a"](x)
"""


def test_what_a_decorator_puts_into_a_table_counts(digest: Digest) -> None:
    assert digest(REGISTRY) != digest(changed(REGISTRY, "x + 1", "x + 2"))


def test_a_constant_read_from_a_file_on_import_counts(digest: Digest, tmp_path: Path) -> None:
    code = (
        "import json, pathlib\n"
        "SETTINGS = json.loads((pathlib.Path(__file__).parent / 'settings.json').read_text())\n"
        "def strategy(x):\n    return x * SETTINGS['k']\n"
    )
    (tmp_path / "settings.json").write_text('{"k": 1}')
    before = digest(code)
    assert digest(code) == before
    (tmp_path / "settings.json").write_text('{"k": 2}')
    assert digest(code) != before


def test_where_a_plugin_lies_does_not_count(digest: Digest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import pathlib\nHERE = pathlib.Path(__file__).parent\ndef strategy(x):\n    return (HERE, x)\n"
    before = digest(code)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / f"{_NAME}.py").write_text(code)
    (tmp_path / f"{_NAME}.py").unlink()
    _forget()
    monkeypatch.syspath_prepend(str(elsewhere))
    assert plugin_digest(importlib.import_module(_NAME).strategy, _NAME) == before


@pytest.mark.parametrize(
    "code",
    [
        "exec('def strategy(x): return x')\n",
        "strategy = eval('lambda x: x')\n",
        "scope = {}\nexec('def strategy(x): return x', scope)\nstrategy = scope['strategy']\n",
    ],
)
def test_code_that_nobody_can_read_is_an_error(digest: Digest, code: str) -> None:
    with pytest.raises(PluginError, match="cannot be read"):
        digest(code)


def test_a_function_of_a_library_is_known_by_its_name(digest: Digest) -> None:
    assert digest("from torch import relu as strategy\n") != digest("from torch import sigmoid as strategy\n")


@pytest.mark.parametrize(
    ("found", "name"),
    [
        (dyconv.build_model, "dyconv.models.build_model"),
        (dyconv.make_dynamic, "dyconv.conversion.make_dynamic"),
        (dyconv.Role, "dyconv.placement.Role"),
        (dyconv.DynamicConv2d, "dyconv.layers.DynamicConv2d"),
        (dyconv.cost, "dyconv.cost.cost"),
        (dyconv.compare_latency, "dyconv.latency.compare_latency"),
        (DatasetFacts, "ablations.facts.DatasetFacts"),
        (register_dataset, "ablations.datasets.register_dataset"),
    ],
)
def test_code_of_ours_that_has_moved_is_told_by_its_earlier_name(found: Any, name: str) -> None:
    assert original_name(f"{found.__module__}.{found.__qualname__}") == name
