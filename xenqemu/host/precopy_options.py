"""The options of a live save or migration."""

from __future__ import annotations

from dataclasses import dataclass

from xenqemu.option import documented, option


@documented
@dataclass(frozen=True, kw_only=True)
class PrecopyOptions:
    """When a guest that runs while its memory is written is suspended for the rest."""

    max_downtime: float | None = option(
        None,
        "The longest downtime, as 300ms or 2s: suspend it when no longer one is expected.",
        flag="--max-downtime",
        metavar="TIME",
    )
    iterations: int = option(5, "At most so many iterations.", flag="--iterations", metavar="N")
    threshold: int = option(
        50, "Suspend it when no more are left to be written.", flag="--threshold", metavar="PAGES"
    )
    bandwidth: int | None = option(
        None, "Bytes a second while it runs, as 100M.", flag="--bandwidth", metavar="SIZE"
    )
    give_up: bool = option(
        False,
        "Leave it alone if it changes too fast, rather than suspend it for longer.",
        flag="--give-up",
    )
