"""People's access: who calls, and what they may do.

A handler says ``caller = await permit(request, "stack-revoke")`` and gets a :class:`Caller`, or the request ends.
"""

from watchword.authority.access.guard import check_origin, identify, known, permit, require
from watchword.authority.access.people import People
from watchword.authority.access.roles import PERMISSIONS, Caller, How, Role
from watchword.authority.access.source import Access

__all__ = [
    "Access",
    "Caller",
    "How",
    "PERMISSIONS",
    "People",
    "Role",
    "check_origin",
    "identify",
    "known",
    "permit",
    "require",
]
