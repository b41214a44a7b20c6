"""Fixtures that tests of planning share with the tests here."""

from tests.ablations.conftest import plan

__all__ = ["plan"]
