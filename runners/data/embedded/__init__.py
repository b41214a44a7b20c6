"""This package holds data that comes with the code, and the scripts that made it; no study runs code from here."""
