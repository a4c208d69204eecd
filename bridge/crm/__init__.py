"""Sends requests to CRM accounts: the client, the tokens, and the connectors that say how each API works.

Owns the requests that go to CRMs, the tokens they carry, and what answers mean; it knows nothing of
deliveries.
May import `record`, `model` and `lib`.
Begin at `client.py`: `Crm`, then `connector/`, where a connector's TOML file becomes objects.
"""
