"""What operators' monitoring and pages are shown: health, metrics, the status of the whole.

Owns the application of the operators' listener, the names and labels of all metrics, and the status
document.
May import `ledger`, `model` and `lib`; it reads, and asks the daemon for work only by a job in the ledger.
Begin at `app.py`: `admin_app()`, then `status.py`: `status_document()`.
"""
