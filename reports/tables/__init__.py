"""This package builds the tables of reports, as data with captions and notes.

Numbers come from `reports.analysis`; no table knows a file format.
"""
