"""Differential privacy as pure maths: what noise is worth, what it is drawn from, and how a claim is attacked."""

ACCOUNTANTS = ("prv", "rdp")  # here, where no library is needed to know their names
