"""`make bench`: how fast the dynamic layers and the harness around them are, as ratios within one process.

`python -m benchmarks` writes docs/performance.json, .md and .png; `python -m benchmarks networks` runs one part.
"""
