"""The console: a few web pages over what the authority knows, for auditors and operators.

Rendered here, with no script and no build step; served below ``/console`` when the operator asks for it, to people
whom ``authority.access`` knows. It reads, and tries changes over the evidence on file; it changes nothing.
"""

from watchword.authority.console.routes import Console

__all__ = ["Console"]
