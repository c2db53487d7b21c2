"""What an operator may change: hosts, stacks, endorsers, makers and profiles. Each act is an entry of the record."""
