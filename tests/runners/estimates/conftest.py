"""Fixtures that tests of planning share with the tests here."""

from tests.ablations.conftest import load, plan

__all__ = ["load", "plan"]
