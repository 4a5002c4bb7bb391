"""The one exception for what the user can mend: every problem at once, no traceback, exit code 2."""

DIVERGED = "training"  # where a loss or gradient that is not finite is said to be


class UserError(Exception):
    """`where` names the file or thing at fault; each problem gives the value, the reason and the next step."""

    def __init__(self, where: str, problems: str | list[str]):
        self.where = where
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__(str(self))

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return f"{self.where}: {self.problems[0]}"
        return "\n".join([f"{self.where}: {len(self.problems)} problems", *(f"  {p}" for p in self.problems)])
