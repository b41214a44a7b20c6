"""Figures: first their data as tidy tables, then the drawing.

Which figures a report has is decided in `reports.document.study_report`.
"""
