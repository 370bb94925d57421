"""Tuned hyper-parameters: one YAML file a cell, which `tune` writes and sweeps and reports read."""
