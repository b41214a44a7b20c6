"""What to ask: specs, studies, plans and published numbers. Imports neither torch nor mlflow."""
