"""`python -m chimage_core`: the command line only."""

import sys

from chimage_core.cli.main import run
from chimage_core.settings import process_environment

raise SystemExit(run("chimage", sys.argv[1:], process_environment()))
