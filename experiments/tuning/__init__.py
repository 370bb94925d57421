"""Hyper-parameters chosen on validation persons, with Optuna."""
