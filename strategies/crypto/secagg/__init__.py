"""Sums without a shared key, which survive offices that vanish."""
