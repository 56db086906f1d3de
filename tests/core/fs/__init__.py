"""Tests of the file-system primitives."""
