"""Estimates how long a plan takes on this machine: keeps measurements, learns from finished runs, words the estimate,
and trims a plan to a budget. Nothing here trains.
"""
