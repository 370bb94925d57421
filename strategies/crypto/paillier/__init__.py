"""Paillier's cryptosystem, made fast: keys, packing, powers and whole updates."""
