"""What goes wrong around an authority, done to a real one on purpose (``bin/faults``)."""
