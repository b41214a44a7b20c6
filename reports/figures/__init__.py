"""This package makes figures: first their data as tidy tables, then the drawing.

`reports.document.study_report` decides which figures a report has.
"""
