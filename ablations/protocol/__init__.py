"""This package holds what is decided before the runs, and what is recorded of the looks at their results.

`stopping` says at which numbers of seeds a study may be judged, `looks` what a look saw. The plan that is frozen before
the runs is made by `ablations.planning.frozen_plan`; how claims are judged at a look is for `reports.analysis`.
"""
