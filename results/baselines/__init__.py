"""Regression baselines: what every strategy scored when it was last looked at, and what has changed."""
