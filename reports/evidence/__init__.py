"""What lets a reader check a report: its manifest, its contents as plain data, and both read back from a file.

The check itself is `reports.verify`.
"""
