"""Tries a configuration before it is used: previews of requests, and questions to platforms and CRMs.

Owns what `map preview` and `check --online` find out, and how secrets are blanked in what they show.
May import `daemon`, `config`, `delivery`, `ledger`, `mapping`, `source`, `crm`, `record`, `model` and
`lib`; it writes to no CRM.
Begin at `preview.py`: `preview()`, then `online.py`: `ask_online()`.
"""
