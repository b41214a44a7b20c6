"""What appears on a terminal: the console itself, tables, the live display of a launch, and streams that outlast a
closed pipe. Nothing here decides what is run.
"""
