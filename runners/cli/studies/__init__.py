"""This package contains the verbs that show and write studies, `list`, `init` and `schema`, and a plan as plain data.

Nothing here trains or measures, and nothing imports torch or MLflow.
"""
