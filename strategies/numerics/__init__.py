"""Compiled arithmetic on flat models. It is a folder so that looking for strategies does not load it."""
