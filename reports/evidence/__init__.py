"""This package lets a reader check a report: it writes its manifest and contents as plain data, and reads both from a
file.

The check itself is `reports.verify`.
"""
