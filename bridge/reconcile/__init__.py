"""Reconciliation: compares the platform's list with the ledger, files what is missing, and balances the two.

Owns paging through a list that changes meanwhile, the comparison of rows with known states, a source's
coverage, and the audit.
May import `ledger`, `source`, `record`, `model` and `lib`; what it finds goes through the ledger's door
like a callback.
Begin at `reconciler.py`: `Reconciler.carry_out()`, then `paging.py`: `ListWalker` and `diff.py`.
"""
