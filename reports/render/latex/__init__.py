"""This package writes a document as LaTeX: the document itself, its tables, and every character so that it is seen."""
