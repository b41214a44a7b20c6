"""`make bench` measures the dynamic layers and the harness around them, as ratios within one process.

`python -m benchmarks` writes docs/performance.json, .md and .png; `python -m benchmarks networks` runs one part. No
other package imports this one.
"""
