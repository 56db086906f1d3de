"""Run a command inside a root file system, without privilege."""

RUNNER_KINDS = ("auto", "python", "ch-run", "bwrap")
"""What `--runner` accepts. `auto` takes the first that works, in this order."""
