"""This package contains the verbs about reports: `report`, `verify`, `bundle` and `compare`. None begins a launch.

`write_report`, `scale`, `packing` and `retrain` import pandas, MLflow or torch; the verbs import them when they work.
"""
