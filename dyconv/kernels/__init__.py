"""This package computes dynamic convolutions: the algorithms, and the cost model that picks one of them by shape.

Compiled code is in `csrc`; torch computes where it is missing. Nothing here knows a module or a network.
"""
