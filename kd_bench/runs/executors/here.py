"""One stage at a time, in this process, so that models stay in memory from one to the next."""

from kd_bench.runs.context import Contexts
from kd_bench.runs.executors.work import Outcome, Work, attempt


class Here:
    """Holds a stage until it is waited for. Errors that are nobody's mistake come with their own traceback."""

    starts = "starts"

    def __init__(self, contexts: Contexts):
        self._contexts = contexts
        self.running: list[Work] = []

    def room(self) -> bool:
        return not self.running

    def start(self, work: Work) -> None:
        self.running.append(work)

    def wait(self) -> tuple[Work, Outcome]:
        outcome = attempt(self.running[0], self._contexts)
        return self.running.pop(), outcome

    def close(self) -> None:
        pass
