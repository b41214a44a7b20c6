"""This package checks layer kinds: `check_layer(MyLayer)` tells whether a class does all that a layer kind promises.

It is for the tests of whoever writes a kind, those of this project included, and needs no test framework. `suite` runs
the checks: `computation` looks at numbers and gradients, `attention` at what interventions and measurements rely on,
`handling` at copies, files, memory formats and precisions. `subject` builds the layers, `report` says what came out.
"""

from dyconv.testing.report import CheckResult, LayerReport
from dyconv.testing.subject import GEOMETRIES, Geometry
from dyconv.testing.suite import check_layer

__all__ = ["CheckResult", "GEOMETRIES", "Geometry", "LayerReport", "check_layer"]
