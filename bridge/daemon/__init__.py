"""The daemon: joins all stages, runs their threads, and carries out what the schedule and operators ask for.

Owns the threads and how they stop, the schedule, operators' jobs, maintenance, and what each stage is handed
of the configuration.
May import `config`, `intake`, `reconcile`, `delivery`, `admin`, `ledger`, `mapping`, `source`, `crm`,
`record`, `model` and `lib`.
Begin at `app.py`: `Daemon`, then `receiving.py` and `delivering.py`: the stages and loops of either side.
"""
