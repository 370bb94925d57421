"""Differential privacy: what is spent, as pure functions."""
