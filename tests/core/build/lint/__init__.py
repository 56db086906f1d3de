"""Tests of what `build --check` says."""
