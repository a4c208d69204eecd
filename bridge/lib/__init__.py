"""Leaf modules, each named by its topic: times, phones, TOML, expressions, patterns, logs, HTTP, errors.

Owns what has nothing to do with calls or CRMs, and the tree of everything that can go wrong.
May import nothing of callbridge.
Begin at `errors.py`, which draws that tree; the others are read when they are needed.
"""
