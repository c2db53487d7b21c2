"""The service: it judges evidence, releases secrets, and keeps the record of every decision.

Begin with ``app.py``, the table of routes; ``server.py`` runs it; ``data.py`` is all that one authority has on disk.
"""
