"""The platform's list beside the ledger: what is missing here is filed, and the balance is drawn up.

Owns paging through a list that moves, the comparison of rows with known states, a source's coverage, and
the audit.
May import `ledger`, `source`, `record`, `model` and `lib`; what it finds goes through the ledger's door
like a callback.
Begin at `reconciler.py`: `Reconciler.carry_out()`, then `paging.py`: `ListWalker` and `diff.py`.
"""
