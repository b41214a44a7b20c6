"""This package tells a study of variances: its table and its words. The numbers are in `reports.analysis.variance`."""
