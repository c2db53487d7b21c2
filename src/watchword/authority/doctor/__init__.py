"""Looks at everything that an authority needs, and says what is wrong or soon will be, and what to do about it."""
