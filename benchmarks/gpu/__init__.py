"""This package measures dynamic convolution on one GPU, unattended and within a budget of minutes.

`python -m benchmarks.gpu` checks that the GPU computes the right numbers, then times networks, layers, single images
and small trainings side by side, and the table by which an algorithm is chosen. `--dry-run` walks every case on the
CPU, at tiny size. Results are JSON and Markdown, written after each case.
"""
