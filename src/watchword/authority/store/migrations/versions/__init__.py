"""One file each, named after its revision."""
