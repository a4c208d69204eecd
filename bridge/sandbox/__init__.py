"""A call platform and a CRM on this machine: for the demo, for trying mappings out, and for the tests.

Owns the two simulated servers, the records they make up, the faults they commit, and the demo between them.
May import `daemon`, `config`, `reconcile`, `ledger`, `record`, `model` and `lib`; nothing below knows that
it exists.
Begin at `demo.py`: `Demo`, then `platform.py` and `crm.py`.
"""
