"""This package packs a report with all that it rests on into one file, checks such a file, and makes the report again.

`packing` puts a bundle together from `records` (the runs) and `surroundings` (code, machine, data); `checking` holds a
bundle against itself, and `remaking` writes its report anew. The bytes of a bundle are for `reports.archive`.
"""
