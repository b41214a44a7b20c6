"""Contains everything that appears on a terminal: the console, tables, the live display of a launch, and streams that
outlast a closed pipe. Nothing here decides which nodes are run.
"""
