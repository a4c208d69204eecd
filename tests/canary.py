"""What must never be seen: secrets anywhere, whole phone numbers in what a program says of itself.

The whole suite is searched for them: what every test's logs and prints hold, what daemons log,
what commands say on stderr, what is on /metrics.
"""

import re

SECRETS = re.compile(r"canary-[0-9a-z-]{4,}|callback-token-of-the-tests|crm-token-of-the-tests")
"""The secrets that the tests hand out."""

# A mobile number, with or without its country; ids and times are longer, in a word, or behind crm_id=.
PHONES = re.compile(r"(?<![\w*.+-])(?<!crm_id=)(?:\+?86)?1[3-9]\d{9}(?![\w.-])")


def leaks(text: str, *, phones: bool = True) -> list[str]:
    """The secrets, and the whole phone numbers, that a text shows."""
    return sorted({*SECRETS.findall(text), *(PHONES.findall(text) if phones else ())})
