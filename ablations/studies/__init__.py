"""This package holds the built-in studies, one file per question. `ablations.registry` finds them by name.

Each module has a `STUDY`, or a `build` if its rows depend on the network and data of the preset. It opens with its
question, the published table, the command, the expected time and the expected result; a test checks that.
"""
