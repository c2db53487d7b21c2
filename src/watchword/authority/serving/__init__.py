"""How requests are served, whatever they ask: problems, limits, threads, readiness, and what systemd is told."""
