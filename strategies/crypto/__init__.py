"""Cryptography as pure functions of numbers and arrays."""
