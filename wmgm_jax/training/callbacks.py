"""What happens beside training, between two calls of the devices, each on its own schedule."""

import dataclasses
from collections.abc import Callable

from wmgm_jax.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class Moment:
    """A moment between two calls.

    Attributes:
        step: steps taken so far.
        is_last: whether the stage has taken all its steps.
        is_preempted: whether the run is to save and stop here.
    """

    step: int
    is_last: bool
    is_preempted: bool


Schedule = Callable[[Moment], bool]


@dataclasses.dataclass(frozen=True)
class Callback:
    """Something to do at some moments.

    Attributes:
        when: the schedule.
        run: is called with the moment and the replicated state, which it must not keep: the next
            call reuses its memory.
    """

    when: Schedule
    run: Callable[[Moment, TrainState], None]


def every(steps: int) -> Schedule:
    """Every so many steps, and after the last."""
    return lambda now: now.step % steps == 0 or now.is_last


def when_preempted(now: Moment) -> bool:
    """Before a run stops early."""
    return now.is_preempted


def any_of(*schedules: Schedule) -> Schedule:
    """Whenever one of the schedules says so."""
    return lambda now: any(when(now) for when in schedules)
