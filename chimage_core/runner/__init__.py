"""Run a command inside a root file system, without privilege."""
