"""Which stages are there, which can start, what becomes of those that ended; and every line that is told about it."""

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from rich.markup import escape

from kd_bench.errors import DIVERGED, UserError
from kd_bench.runs.executors.work import Job, Outcome, Work
from kd_bench.runs.store import Store, disk_errors

RETRIES = 2  # of a stage whose process was killed


class Pool(Protocol):
    """What runs stages. starts: how the driver says that it took one."""

    starts: str
    running: list[Work]

    def room(self) -> bool: ...
    def start(self, work: Work) -> None: ...
    def wait(self) -> tuple[Work, Outcome]: ...
    def close(self) -> None: ...


class Schedule:
    """The stages of the jobs that were added, once each. state: {key: Store.state's words, or running, skipped, not
    needed}. expected: how many there will be in the end, as far as the caller can tell."""

    def __init__(self, store: Store, console, expected: int = 0):
        self.store, self.console, self.expected = store, console, expected
        self.jobs: dict[str, Job] = {}
        self.state: dict[str, str] = {}
        self.waiting: list[str] = []
        self.needs: dict[str, list[str]] = {}
        self.users: dict[str, list[str]] = {}
        self.may_fail: dict[str, bool] = {}
        self.died: Counter[str] = Counter()

    def add(self, jobs: Iterable[Job]) -> int:
        """Each after what it needs; equal stages are one. Returns how many it was given."""
        count = 0
        for job in jobs:
            count += 1
            key = job.stage.key
            # Who needs it for itself, and not as one trial of many, has to hear of its failure.
            self.may_fail[key] = self.may_fail.get(key, True) and job.may_fail
            if key not in self.jobs:
                self.jobs[key] = job
                self.needs[key] = [need.key for need in job.stage.needs.values()]
                for need in self.needs[key]:
                    self.users.setdefault(need, []).append(key)
            if self.state.get(key, "skipped") in ("failed", "skipped", "not needed"):  # new, or needed after all
                self.state[key] = self.store.state(job.stage)
                if key not in self.waiting:
                    self.waiting.append(key)
        for key in [*self.waiting, *self.waiting] if count else ():  # twice: what needs states comes after them
            self._judge(key)
        return count

    def open(self) -> bool:
        """Whether anything is to be run."""
        return any(s not in ("done", "skipped", "not needed") and not self._gone(key) for key, s in self.state.items())

    def run(self, pool: Pool, work_of: Callable[[Job], Work], more: Callable[[], bool]) -> None:
        """Until nothing is left to do; `more` is called after each stage that was run, and may add jobs: whether it
        did. Raises the first error that may not be; the caller closes the pool."""
        while self.waiting or pool.running:
            self._start_what_can(pool, work_of)
            if pool.running:
                self._end(pool, *pool.wait())
                more()
            elif not more():
                return

    def there(self) -> dict[str, Path]:
        return {key: self.store.path(job.stage) for key, job in self.jobs.items() if self.state[key] == "done"}

    def _start_what_can(self, pool: Pool, work_of: Callable[[Job], Work]) -> None:
        """What is settled already is told in its place in the order."""
        left = []
        for number, key in enumerate(self.waiting):
            if not pool.room():
                left += self.waiting[number:]
                break
            if self._settled(key):
                continue
            if all(self.state.get(need, "done") == "done" for need in self.needs[key]):
                self._start(key, pool, work_of(self.jobs[key]))
            else:
                left.append(key)
        self.waiting = left

    def _settled(self, key: str) -> bool:
        """Whether there is nothing to run; then says why."""
        self._judge(key)
        stage, state = self.jobs[key].stage, self.state[key]
        if state == "done":
            self._say(key, f"[green]done before[/green]{_took(self.store.passport(stage).get('seconds'))}")
        elif state == "not needed":
            self._say(key, "[green]not needed[/green]: all that was to learn from it is done")
        elif state == "skipped":
            gone = ", ".join(self.jobs[need].stage.name for need in self.needs[key] if self._gone(need))
            self._say(key, f"[yellow]skipped[/yellow]: it needs {gone}")
        elif self._gone(key):
            self._say(key, f"[yellow]failed before[/yellow]: {_plain(self.store.failed(stage))}")
        else:
            return False
        return True

    def _judge(self, key: str) -> None:
        if self.state[key] == "done":
            return
        if any(self._gone(need) for need in self.needs[key]):
            self.state[key] = "skipped"
        elif self.jobs[key].stage.kind == "states" and all(
            self.state[user] == "done" or self._gone(user) for user in self.users[key]
        ):
            self.state[key] = "not needed"

    def _gone(self, key: str) -> bool:
        state = self.state.get(key)
        return state == "skipped" or (state == "failed" and self.may_fail[key])

    def _start(self, key: str, pool: Pool, work: Work) -> None:
        stage = work.job.stage
        with disk_errors(self.store.root):
            if self.state[key] == "damaged":
                reason = self.store.damage(stage)
                aside = self.store.set_aside(stage)
                self._say(key, f"[yellow]damaged: {reason}; set aside as {aside.name}, made again[/yellow]")
            self.store.forget(stage)
            resumed = self.store.partial(stage).is_dir()
        self._say(key, f"[cyan]{'goes on where it was' if resumed else pool.starts}[/cyan]")
        self.state[key] = "running"
        pool.start(work)

    def _end(self, pool: Pool, work: Work, outcome: Outcome) -> None:
        stage = work.job.stage
        key = stage.key
        if outcome.seconds is not None:
            self.state[key] = "done"
            self._say(key, f"[green]done[/green]{_took(outcome.seconds)}")
        elif outcome.problem is not None and outcome.problem[0] == DIVERGED and self.may_fail[key]:
            error = UserError(*outcome.problem)
            with disk_errors(self.store.root):
                self.store.fail(stage, error)
            self.state[key] = "failed"
            self._say(key, f"[yellow]failed, which may be[/yellow]: {_plain(str(error))}")
        elif outcome.died is not None and self.died[key] < RETRIES:
            self.died[key] += 1
            again = f"tried again from its checkpoint, {self.died[key]} of {RETRIES}"
            self._say(key, f"[yellow]its process died ({_plain(outcome.died)}): {again}[/yellow]")
            pool.start(work)
        else:
            self._fail(pool, work, outcome)

    def _fail(self, pool: Pool, work: Work, outcome: Outcome) -> None:
        self._say(work.job.stage.key, "[red]failed[/red]")
        for other in pool.running:
            self._say(other.job.stage.key, "[yellow]stopped[/yellow]: a repeated command goes on where it was")
        if outcome.problem is not None:
            raise UserError(*outcome.problem)
        name = f"{work.job.stage.kind} {work.job.stage.name}"
        if outcome.died is not None:
            problem = (
                f"its process died {RETRIES + 1} times, at last: {outcome.died}. Its folder is kept: where memory "
            )
            raise UserError(name, problem + "ran out, lower `training.max_tokens` or `--jobs`, and repeat the command.")
        raise RuntimeError(f"{name} failed in its process:\n{outcome.crash}")

    def _say(self, key: str, text: str) -> None:
        # console.print: a live display would fight with the progress bars of trainer and evaluator below it.
        job, total = self.jobs[key], max(self.expected, len(self.jobs))
        number = f"{list(self.jobs).index(key) + 1:>{len(str(total))}}/{total}"
        self.console.print(f"[dim]{number}[/dim] {job.stage.kind:<8} {job.stage.name}{_rate(job)}  {text}")


def _rate(job: Job) -> str:
    """A search trains one student at several rates, under one name."""
    rate = job.stage.params.get("training", {}).get("learning_rate")
    return "" if rate is None else f" [dim]at {rate:g}[/dim]"


def _took(seconds: float | None) -> str:
    return "" if seconds is None else f" in {duration(seconds)}"


def duration(seconds: float) -> str:
    """4 s, 3 min 20 s, 2 h 05 min."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _plain(text: str | None) -> str:
    return escape(" ".join((text or "").split()))
