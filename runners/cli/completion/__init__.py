"""This package completes commands in bash, zsh and fish: studies and rows, presets, settings and their values.

A shell asks at each press of a key, so that nothing here imports torch or MLflow. click carries the completion out;
`candidates` says what may come next, and `shells` how each shell asks and is answered.
"""
