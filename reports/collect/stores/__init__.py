"""This package opens what holds runs, for reading: a tracking store of MLflow, or a bundle that was packed from one.

`base` says what both can do and `opening` chooses between them by the address. Which runs are read, and what is made
of them, is for `reports.collect`.
"""
