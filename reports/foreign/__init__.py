"""This package makes and checks reports on results that were measured elsewhere, and compares two sets of them.

They are read in `reports.collect.foreign`; their document is built in `reports.document.foreign_report`.
"""
