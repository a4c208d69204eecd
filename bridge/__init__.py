"""callbridge: every call the platform made is in the CRM, once, and the operator can prove it."""

__version__ = "0.1.0"
