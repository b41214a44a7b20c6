"""A tracking store seen from outside: its address without secrets, and the condition of a SQLite file. No MLflow."""
