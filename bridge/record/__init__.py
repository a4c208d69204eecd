"""Records: what a platform sends, which call a record is of, and whether it is news.

Owns reading a body however it is wrapped or damaged, the `Call` that mappings see, and the verdict on a
record.
May import `model` and `lib`; how one platform spells its fields is handed in as a `Dialect`.
Begin at `arrival.py`: `arrivals_of()`, then `verdict.py`: `rule()` and `call.py`: `Call`.
"""
