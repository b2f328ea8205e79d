"""`mld ingest`: what waits in the spool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mld_pipelines.cli._answer import Answer, table_of
from mld_pipelines.cli._command import command, group
from mld_pipelines.cli._exits import Exit

if TYPE_CHECKING:
    import polars as pl

__all__ = ["app"]

app = group("See and ship what waits in the spool.")


@command(app, "status")
def status() -> Answer:
    """Show the rows that are acknowledged and not yet in the lake, by stream."""
    waiting = _waiting()
    rows = int(waiting["rows"].sum())
    text: tuple[Any, ...] = (table_of(waiting), f"{rows} rows wait") if waiting.height else ("the spool is empty",)
    return Answer({"rows": rows, "streams": waiting}, text)


@command(app, "replay")
def replay() -> Answer:
    """Commit everything in the spool, also what killed processes left. Exit status 4: it was empty."""
    from mld_pipelines.capture import replay as ship

    before = _waiting()
    moved = [ship(root) for root in before["lake"].unique().sort()]
    after = _waiting()
    shipped = sum(sum(one.rows.values()) for one in moved)
    known = sum(sum(one.known.values()) for one in moved)
    refused = sum(sum(one.refused.values()) for one in moved)
    data = {"shipped": shipped, "known": known, "refused": refused, "waiting": after}
    if not before["rows"].sum():
        return Answer(data, ("nothing waits in the spool",), Exit.NOTHING_TO_DO)
    text = f"shipped {shipped} rows ({known} of them were in the lake already), {refused} refused"
    left = int(after["rows"].sum())
    return Answer(
        data, (text, *([f"{left} rows still wait"] if left else [])), Exit.FAILED if refused or left else Exit.OK
    )


def _waiting() -> pl.DataFrame:
    import polars as pl

    from mld_pipelines.capture import spooled_streams

    rows = [(one.root, one.stream_id, one.segments, one.rows, one.size, one.set_aside) for one in spooled_streams()]
    schema = {"lake": pl.String, "stream_id": pl.String, "segments": pl.Int64, "rows": pl.Int64}
    return pl.DataFrame(rows, schema={**schema, "bytes": pl.Int64, "set_aside": pl.Int64}, orient="row")
