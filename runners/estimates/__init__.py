"""How long a plan takes on this machine: measurements, what finished runs teach, the estimate in numbers and in words,
and trimming a plan to a budget. Nothing here trains.
"""
