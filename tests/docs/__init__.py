"""Tests of the documentation: it says what the code has, and its commands and studies work."""
