"""This package makes of a report's tables what is used elsewhere: tidy rows for programs, and tables for a paper."""
