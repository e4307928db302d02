"""What commands print with --json, compared with the schema in docs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

SCHEMA = Path(__file__).parents[2] / "docs" / "schema" / "answers-1.json"


def schema() -> dict[str, Any]:
    """Return the schema."""
    found: dict[str, Any] = json.loads(SCHEMA.read_text())
    return found


def fault(answer: Any, name: str) -> str:
    """Return what of an answer is not as a definition of the schema says, "" if all is."""
    wanted = {"$ref": f"#/$defs/{name}", "$defs": schema()["$defs"]}
    found = best_match(Draft202012Validator(wanted).iter_errors(answer))
    return f"{found.json_path}: {found.message}" if found else ""


def is_a(answer: Any, name: str) -> None:
    """Assert that an answer is as a definition says."""
    assert fault(answer, name) == "", answer


def lines_are(text: str, last: str) -> list[Any]:
    """Assert that lines of JSON are events but for the last, which is as `last` says."""
    *events, answer = [json.loads(line) for line in text.splitlines()]
    for event in events:
        is_a(event, "event")
    is_a(answer, last)
    return [*events, answer]
