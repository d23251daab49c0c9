"""Notice that a run is to stop: the machine is taken away, or someone presses Ctrl-C."""

import logging
import signal
import threading
from typing import Any

import jax
from jax.experimental import multihost_utils

_log = logging.getLogger(__name__)


class Preemption:
    """Whether SIGTERM or SIGINT has come, as a context that puts the former handlers back.

    A second SIGINT finds its former handler, which stops at once.

    With several hosts JAX's own service watches for the signal, and agrees with the other hosts
    on the call after which all of them save.
    """

    def __enter__(self) -> "Preemption":
        self._received = False
        self._handles_signal = (
            jax.process_count() == 1 and threading.current_thread() is threading.main_thread()
        )
        if self._handles_signal:
            self._former: dict[int, Any] = {
                number: signal.signal(number, self._on_signal)
                for number in (signal.SIGTERM, signal.SIGINT)
            }
        return self

    def __exit__(self, *_) -> None:
        if self._handles_signal:
            for number, former in self._former.items():
                signal.signal(number, former)

    def _on_signal(self, number: int, _) -> None:
        self._received = True
        if number == signal.SIGINT:
            _log.warning("stopping after this call; Ctrl-C again stops at once")
            signal.signal(number, self._former[number])

    def requested(self, call: int) -> bool:
        """Whether to save and stop after the call of a device of this number, which goes up by one
        from call to call; every host gets the same answer."""
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(call)
        return self._received
