"""This package lets a reader check a report: it writes manifest and contents as plain data, and reads them from a file.

The check itself is `reports.verify`.
"""
