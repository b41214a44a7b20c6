"""The tables of reports, as data with captions and notes: studies, claims, costs, searches and the appendix.

Numbers come from `reports.analysis`; no table knows a file format.
"""
