"""This package makes the columns that stand beside the measured ones of a table: published numbers, and counts."""
