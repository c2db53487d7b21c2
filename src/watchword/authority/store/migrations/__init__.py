"""The steps from the tables of an older program to those of this one, in the order of Alembic's revisions."""
