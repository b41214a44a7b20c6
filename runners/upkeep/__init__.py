"""Looks after a runs folder: the status of nodes, why a cell is reused or missing, damaged files, and files that may be
removed. Nothing is trained here.
"""
