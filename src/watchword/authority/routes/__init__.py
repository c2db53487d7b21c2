"""The handlers of the routes in ``app.py``: each turns one request into one answer, and knows no status codes."""
