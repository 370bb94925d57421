"""Sums that the server cannot read: what all protected strategies share.

Under protection updates travel, never models. The model lives with the offices; each keeps it in its memory and moves
it on by the sums that the server sends round. A round:

    server   sends each office the protected sums it has missed, or, if they are too old, the newest sealed model
    office   opens them, takes the strategy's `server_step`, trains, and sends its update in fixed point, protected
    server   checks every message, adds them up, and keeps the sum
    office   one of those that answered opens the sum, evaluates the model, and seals it for whoever comes back

Here are the messages (`context`, `sums`), the two parties (`office`, `server`), the keys (`vault`) and the dataclass
that the strategies extend (`base`). A protocol, such as `strategies/masked_sum.py`, adds how integers are made
unreadable and how such things add up.

In a simulation a round may be computed with its integers in clear (`Federation.measured`): the result is the same bit
for bit, as tests show for every protocol, and a sweep has the cost measured on the other rounds.
"""
