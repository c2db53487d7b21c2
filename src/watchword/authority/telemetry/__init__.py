"""What the service tells its operator: a log of events, and metrics made of the same events and of the store."""
