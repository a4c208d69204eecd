"""Delivery: takes due deliveries, and brings each call's plan into a CRM exactly once in effect.

Owns leases under way, key locks, rate limits, batches, retries, the sync of each object, and what becomes of
a delivery after an attempt.
May import `ledger`, `mapping`, `crm`, `record`, `model` and `lib`.
Begin at `worker.py`: `Worker.deliver_one()`, then `dispatcher.py`, `prepare.py`, `executor.py` and
`completer.py` in this order; `pipeline.py` puts them together.
"""
