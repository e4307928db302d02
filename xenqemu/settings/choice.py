"""What happens to a guest when its host shuts down."""

from __future__ import annotations

from enum import Enum


class Choice(Enum):
    """As settings and guests' own files write it."""

    SAVE = "save"
    SHUT_DOWN = "shutdown"
    LEAVE = "leave"
