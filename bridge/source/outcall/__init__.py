"""The first platform: an AI outbound-call vendor whose list is asked by pages of a window of time.

Owns its field names and how they are spelt, its login and its list, and how fast it may be asked.
May import `record`, `model` and `lib`, and the interfaces of `source`.
Begin at `client.py`: `OutcallList`, then `fields.py` and `names.py`.
"""
