"""Taking care of what is stored: backups, going on after one was put back, forgetting what need not be kept."""
