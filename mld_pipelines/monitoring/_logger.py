"""What every logger is: used like its model, closed like a file, silent about its own faults."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Self

from mld_pipelines.capture import is_strict
from mld_pipelines.monitoring._call import NO_TIME, stated_time
from mld_pipelines.monitoring._stand_in import StandIn

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from mld_pipelines.capture import Recorder, Stats
    from mld_pipelines.monitoring._background import Background

__all__ = ["Logger"]

_log = logging.getLogger("mld_pipelines.monitoring")


class Logger(StandIn):
    """Base of all loggers, for `isinstance`; make a logger of a task.

    A subclass sets the attributes below before anything can go wrong.
    """

    _names: tuple[str, str, str | None]
    _said: set[str]
    _clock: Callable[[], datetime | float] | None
    _recorder: Recorder
    _background: Background

    def _detach(self) -> None:
        """Remove hooks that outlive a call."""

    @property
    def model(self) -> Any:
        """The wrapped model."""
        return self._model

    @property
    def stream_id(self) -> str:
        """Stream of the rows."""
        return self._recorder.stream.stream_id

    @property
    def stats(self) -> Stats:
        """Where the rows are now; at a quiet moment `emitted = stored + dropped + spooled`."""
        return self._recorder.stats

    def flush(self, timeout: float | None = 30.0) -> bool:
        """Store everything logged so far; return whether it is in the lake (otherwise it waits in the spool).

        Args:
            timeout: Seconds to wait; None waits for ever.
        """
        try:
            return self._recorder.flush(timeout)
        except Exception as error:
            self._failed(error)
            return False

    def close(self, timeout: float | None = 5.0) -> bool:
        """Flush, remove hooks and end the background thread; calls go on to the model, unlogged.

        Args:
            timeout: Seconds to wait for the lake.
        """
        try:
            return self._recorder.close(timeout)
        except Exception as error:
            self._failed(error)
            return False
        finally:
            self._detach()

    def __enter__(self) -> Self:
        """Return the logger."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def __repr__(self) -> str:
        """Show the model's names and the wrapped model."""
        return f"{type(self).__name__}({'@'.join(self._names[:2])}, result_name={self._names[2]!r}, {self._model!r})"

    def _event_time(self) -> int:
        try:
            return stated_time(self._clock)
        except Exception as error:
            self._say("clock", f"the clock failed, the time of ingest is used: {type(error).__name__}: {error}")
            return NO_TIME

    def _failed(self, error: Exception) -> None:
        """Note a fault of ours; raise it only in this package's own tests."""
        if is_strict():
            raise error
        self._say(type(error).__name__, f"an inference was not logged: {type(error).__name__}: {error}")

    def _say(self, key: str, message: str) -> None:
        if key not in self._said:
            self._said.add(key)
            _log.warning("%s: %s", self._names[0], message)

    def _weights_may_have_changed(self) -> None:
        self._background.forget_weights()
