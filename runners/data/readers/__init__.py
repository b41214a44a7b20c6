"""This package reads images: one module per source, and readers of the file formats.

`runners.data` makes batches of them.
"""
