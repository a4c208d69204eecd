"""The nouns that all rooms share, and the pure rules about them.

Owns calls, deliveries, plans, jobs and failures as frozen structures, and what a retry, a skip, a hold or
a lease's end means.
May import `lib`; nothing here reads a clock, a file or a ledger.
Begin at `calls.py` and `deliveries.py`, then `delivery_rules.py`.
"""
