"""HTTP to servers that send anything: one exchange at a time, each with a deadline and a bound on its answer.

Owns connections, TLS, proxies, decompression, and the remedies for servers that cannot be reached.
May import nothing of callbridge but `lib`.
Begin at `client.py`: `HttpClient.send()`, then `direct.py` and `connection.py` beneath it; `proxied.py` leads
through a proxy.
"""
