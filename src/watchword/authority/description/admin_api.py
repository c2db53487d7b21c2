"""The operations of ``authority/operations`` as the OpenAPI description has them, derived from their questions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from watchword.authority.description.openapi import Answer, Operation, Parameter
from watchword.authority.operations import OPERATIONS as ACTS
from watchword.authority.operations import Operation as Act

__all__ = ["ADMIN_OPERATIONS", "ADMIN_SCHEMAS"]

_JSON: Final = "application/json"
_TEMPLATE: Final = "#/components/schemas/{name}"
_WHO: Final = ("unauthenticated", "forbidden", "identity-unavailable")
_WORK: Final = (
    "http-malformed", "internal", "overloaded", "misconfigured", "store-busy", "store-unavailable", "stopping",
)  # fmt: skip
_BODY: Final = (
    "body-empty", "body-length", "body-slow", "body-too-large", "body-type", "body-malformed", "cross-origin",
)  # fmt: skip
_KINDS: Final = [act.question for act in ACTS.values()]

ADMIN_SCHEMAS: Final[Mapping[str, Mapping[str, Any]]] = msgspec.json.schema_components(_KINDS, ref_template=_TEMPLATE)[
    1
]


def _operation(act: Act) -> Operation:
    words = act.name.split()
    schema = ADMIN_SCHEMAS[act.question.__name__]
    answer = Answer("what was found or done", _JSON, {"type": "object"})
    return Operation(
        words[0] + "".join(word.title() for word in words[1:]) + "Admin",
        f"{act.name}: {schema.get('description', '')}",
        {200: answer},
        (*_WORK, *_WHO, *(_BODY if act.changes else ("query-malformed",))),
        () if act.changes else tuple(_parameters(schema)),
        (_JSON, {"$ref": _TEMPLATE.format(name=act.question.__name__)}, None) if act.changes else None,
        private=True,
        refuses=True,
    )


def _parameters(schema: Mapping[str, Any]) -> list[Parameter]:
    required = schema.get("required", ())
    return [
        Parameter(name, "query", "", each, required=name in required) for name, each in schema["properties"].items()
    ]


_SELF: Final = Operation(
    "self",
    "Who the service takes the caller for",
    {200: Answer("the caller's name, roles and acts", _JSON, {"type": "object"})},
    ("http-malformed", "internal", "overloaded", *_WHO),
    private=True,
)

ADMIN_OPERATIONS: Final[Mapping[tuple[str, str], Operation]] = {
    ("GET", "/v1/admin/self"): _SELF,
    **{("POST" if act.changes else "GET", act.path): _operation(act) for act in ACTS.values()},
}
