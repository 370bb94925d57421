"""Sums under lattice encryption: bfv and ckks."""
