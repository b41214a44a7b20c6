"""How it is run: data, training, evaluation, dispatch, tracking. Importing the package imports no torch."""
