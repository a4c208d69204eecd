"""Delivering: which call is served when, and how its plan gets into a CRM once.

Owns leases under way, key locks, rate limits, batches, retries, the state of each object's sync, and what
an attempt came to.
May import `ledger`, `mapping`, `crm`, `record`, `model` and `lib`.
Begin at `worker.py`: `Worker.deliver_one()`, then `prepare.py`, `executor.py` and `settle.py` in this
order.
"""
