"""A small HTTP server that nobody can hold up, for the programs beside the authority."""
