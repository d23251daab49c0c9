"""Notice that the machine is about to be taken away."""

import signal
import threading

import jax
from jax.experimental import multihost_utils


class Preempted(Exception):  # noqa: N818 - an outcome, not an error
    """The run was asked to stop and has saved a checkpoint. The text is for the user."""


class Preemption:
    """Whether SIGTERM has come, as a context that puts the former handler back.

    With several hosts JAX's own service watches for the signal, and agrees with the other hosts
    on the step after which all of them save.
    """

    def __enter__(self) -> "Preemption":
        self._received = False
        self._handles_signal = (
            jax.process_count() == 1 and threading.current_thread() is threading.main_thread()
        )
        if self._handles_signal:
            self._former = signal.signal(signal.SIGTERM, self._on_signal)
        return self

    def __exit__(self, *_) -> None:
        if self._handles_signal:
            signal.signal(signal.SIGTERM, self._former)

    def _on_signal(self, *_) -> None:
        self._received = True

    def requested(self, step: int) -> bool:
        """Whether to save after `step` and stop; every host gets the same answer."""
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(step)
        return self._received
