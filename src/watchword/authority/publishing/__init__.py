"""What the authority tells everybody, or before it is asked: the log and its witnesses, events, webhooks."""
