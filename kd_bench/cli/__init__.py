"""The verbs. Thin: each command imports what it needs when it runs, so that `--help` answers at once."""

import logging
import sys

# Each registers its verbs, in the order in which `--help` lists them.
# isort: off
from kd_bench.cli import recipes  # noqa: F401
from kd_bench.cli import study  # noqa: F401
from kd_bench.cli import models  # noqa: F401
from kd_bench.cli import results  # noqa: F401
from kd_bench.cli import report  # noqa: F401

# isort: on
from kd_bench.cli.common import app
from kd_bench.errors import UserError


def main() -> None:
    """The entry point: the user's mistakes end with one message on stderr and exit code 2, without a traceback."""
    # It warns at every import of kernels that only its 4-bit layers on a CPU would use.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    try:
        app()
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
