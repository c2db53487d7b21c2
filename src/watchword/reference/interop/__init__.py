"""Other people's formats for reference values: read what a stack can say, and name in words what it cannot.

Nothing is ever widened: what has no exact counterpart in a stack is left out and reported, never approximated.
"""
