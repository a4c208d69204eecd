"""A call platform and a CRM on this machine, for the demo, for trying mappings out and for the tests."""
