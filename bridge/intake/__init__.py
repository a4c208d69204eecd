"""Taking callbacks: the public door, and the judge who gives each receipt its verdict.

Owns the listener with its limits, the checks of a request in the order of the contract, group commit, and
the judge's step.
May import `ledger`, `record`, `model` and `lib`.
Begin at `receive.py`: `Door`, then `judge.py`: `Judge.judge_waiting()`; `http_server.py` is what stands in
front of the door.
"""
