"""This package builds the tables of factorial studies: `work` says which part does the work, `terms` lists effects."""
