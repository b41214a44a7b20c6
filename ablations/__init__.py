"""This package holds the questions: specs, studies, plans, published numbers. It imports neither torch nor mlflow."""
