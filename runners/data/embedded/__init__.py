"""Data that comes with the code, and the scripts that made it; no code that runs in a study."""
