"""Loads plug-ins from their code as a new process would, for the tests of what identifies them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runners import plugins
from tests.registries import KeptRegistries

Load = Callable[..., None]


def loaded_afresh(folder: Path, monkeypatch: pytest.MonkeyPatch, prefix: str) -> Iterator[Load]:
    """Yield a function that loads codes as modules called `prefix`_0, …, and forget them at the end."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    kept = KeptRegistries()

    def forget() -> None:
        kept.restore()
        for name in [name for name in sys.modules if name.startswith(prefix)]:
            del sys.modules[name]
        importlib.invalidate_caches()

    def afresh(*codes: str) -> None:
        forget()
        modules = [f"{prefix}_{index}" for index, _ in enumerate(codes)]
        for module, code in zip(modules, codes, strict=True):
            (folder / f"{module}.py").write_text(code, encoding="utf-8")
        plugins.load_plugins(modules)

    yield afresh
    forget()


def changed(code: str, old: str, new: str) -> str:
    """Return code with a part replaced that it must have."""
    assert old in code
    return code.replace(old, new)
