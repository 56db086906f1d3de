"""Dockerfile text to instructions."""
