"""The authority's keys: the files, which of them are in force and how they change, and the mark kept beside them."""
