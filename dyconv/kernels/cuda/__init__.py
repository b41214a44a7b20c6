"""This package computes dynamic convolutions on CUDA devices: Triton programs, their launches, and the choice by shape.

`programs` holds what runs on the device and is imported when the first tensor there comes, `launching` its parameters
by shape. `dense` and `depthwise` are the computations that `operators` calls. `choices` says which algorithm is taken
for a shape, from a table that `benchmarks.gpu` measures or from the estimate in `roofline`. The composite algorithms,
and everything about autograd, are one room up.
"""
