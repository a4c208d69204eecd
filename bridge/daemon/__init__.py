"""One running callbridge: all stages joined, their threads, and what the clock and operators ask for.

Owns the threads and how they stop, the schedule, operators' jobs, maintenance, and the ways from the
configuration to each stage.
May import `config`, `intake`, `reconcile`, `delivery`, `admin`, `ledger`, `mapping`, `source`, `crm`,
`record`, `model` and `lib`.
Begin at `app.py`: `Daemon`, then `stages.py`: `build_stages()` and `threads.py`: `Loops`.
"""
