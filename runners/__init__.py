"""Runs plans: data, training, evaluation, dispatch, tracking, the command line. Importing it imports no torch."""
