"""`chimage`: the command line; the app will join here. Textual is not imported for the command line."""

import sys
from typing import NoReturn

from chimage_core.cli.main import run
from chimage_core.settings import process_environment


def main() -> NoReturn:
    """Run as the console script `chimage`."""
    raise SystemExit(run("chimage", sys.argv[1:], process_environment()))


if __name__ == "__main__":
    main()
