"""What happens beside training, between two calls of the compiled program, and when."""

import dataclasses
from collections.abc import Callable

import jax

from wmgm_jax.runs.checkpoints import Checkpoints
from wmgm_jax.runs.run import Run
from wmgm_jax.systems.interface import Stage
from wmgm_jax.training.previews import Previews
from wmgm_jax.training.reporter import Reporter
from wmgm_jax.training.state import TrainState, checkpoint_trees, model_entries


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a stage is.

    Attributes:
        step: steps taken so far.
        is_last: whether the stage has taken all its steps.
        is_preempted: whether the run is to save and stop here.
    """

    step: int
    is_last: bool
    is_preempted: bool


When = Callable[[Progress], bool]


@dataclasses.dataclass(frozen=True)
class Callback:
    """Something to do between two calls.

    Attributes:
        when: whether it is to be done now.
        run: does it, given the progress and the replicated state. It must not keep the state, whose
            memory the next call reuses.
    """

    when: When
    run: Callable[[Progress, TrainState], None]


def every(steps: int) -> When:
    """Every `steps` steps, and after the last."""
    return lambda progress: progress.step % steps == 0 or progress.is_last


def when_preempted(progress: Progress) -> bool:
    """Before a run stops early."""
    return progress.is_preempted


def any_of(*conditions: When) -> When:
    """Whenever one of the conditions holds."""
    return lambda progress: any(when(progress) for when in conditions)


def make_callbacks(
    run: Run, stage: Stage, reporter: Reporter, previews: Previews, checkpoints: Checkpoints
) -> list[Callback]:
    """The callbacks of a stage, in the order in which they run."""
    settings, is_first_host = run.config.train, jax.process_index() == 0

    def report(progress: Progress, state: TrainState) -> None:
        reporter.report()

    def measure(progress: Progress, state: TrainState) -> None:
        values = previews.measure(model_entries(stage, state)) if is_first_host else {}
        reporter.write_measures(progress.step, values)
        previews.keep_best(progress.step, values, checkpoint_trees(state)[0])

    def preview(progress: Progress, state: TrainState) -> None:
        if is_first_host:
            previews.write(progress.step, model_entries(stage, state))

    def save(progress: Progress, state: TrainState) -> None:
        checkpoints.save(progress.step, *checkpoint_trees(state))

    when_measured = every(run.config.evaluation.every)
    when_saved = any_of(every(settings.checkpoint_every), when_preempted)
    return [
        # It raises an error if a metric is not finite, before anything is measured or saved.
        Callback(any_of(every(settings.log_every), when_measured, when_saved), report),
        Callback(when_measured, reporter.untimed(measure)),
        Callback(every(settings.preview_every), reporter.untimed(preview)),
        # Last, so that a run that resumes from it does not repeat the others.
        Callback(when_saved, reporter.untimed(save)),
    ]
