"""Resolution of a job's open settings, from the resumed run or by the engine's choice."""

from __future__ import annotations

from dataclasses import replace

from cliquegraph.plugins.engines import Choice, Engine
from cliquegraph.training.job import Job
from cliquegraph.training.run import Run


def settle(job: Job, engine: Engine, resumed: Run | None) -> tuple[Job, str | None]:
    """Return a job without open settings, and a line on what was chosen and why.

    Requested settings take precedence, then those of the resumed run, whose rounding would change
    with another level or memory format. There is no line if nothing was open.

    Args:
        job: the training.
        engine: the engine that trains it.
        resumed: the run that it continues, if any.

    Raises:
        UsageError: the run's ``run.json`` can't be read.
    """
    choice = engine.choose(job)
    facts = resumed.facts if resumed is not None and resumed.exists else None
    level, layout, timed = choice.level, choice.channels_last, choice.cudnn_benchmark
    if facts is not None:
        if facts.level is not None and not choice.binding:
            level = facts.level
        layout = None if layout is None else facts.channels_last
        timed = timed if facts.cudnn_benchmark is None else facts.cudnn_benchmark
    if not job.any_level:
        level = job.compilation.level
    if job.channels_last is not None:
        layout = job.channels_last
    if job.cudnn_benchmark is not None:
        timed = job.cudnn_benchmark
    compilation = job.compilation
    if level != compilation.level:
        compilation = replace(compilation, level=level)
    settled = replace(
        job,
        compilation=compilation,
        any_level=False,
        channels_last=layout,
        cudnn_benchmark=timed,
    )
    return settled, _line(job, settled, choice, facts is not None and level == facts.level)


def _line(job: Job, settled: Job, choice: Choice, resumed: bool) -> str | None:
    """The line on what was chosen and why."""
    layout = "channels_last" if settled.channels_last else None
    if not job.any_level:
        if layout is None or job.channels_last is not None or resumed:
            return None
        return f"{layout} {choice.why}; --no-channels-last turns it off"
    chosen = ", ".join(filter(None, (f"-O{settled.compilation.level}", layout)))
    if resumed:
        return f"{chosen}, as in the resumed run"
    return f"{chosen} {choice.why}" + ("" if choice.binding else "; -O selects another level")
