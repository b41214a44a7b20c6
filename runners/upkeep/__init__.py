"""Looks after a runs folder: how nodes stand, why a cell is reused or missing, what is damaged, and what may be
removed. Nothing is trained here.
"""
