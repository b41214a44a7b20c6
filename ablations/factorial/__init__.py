"""This package declares factorial designs: factors that are off or on, and the combinations that are trained.

`declaration` is the part of a study that a user writes. `design` is the arithmetic behind it: the defining relation of
a fraction, its aliases, and the weight of every combination in every effect. Values and intervals are computed by
`reports.analysis.factorial`.
"""
