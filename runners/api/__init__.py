"""This package is the Python API: what is asked for, and what the command line and a notebook alike do with it.

The verbs of `runners.cli` parse options and print; what they do to carry them out is here.
"""
