"""Reads and checks the configuration, and hands it out section by section.

Owns the keys of `config.toml` with their defaults, the overrides by environment, the secrets, and every
problem with its line.
May import `mapping`, `source`, `crm`, `model` and `lib`; the stages stand below and are handed their own
section.
Begin at `schema.py`, then `load.py`: `load_config()` and `problems.py`: `find_problems()`.
"""
