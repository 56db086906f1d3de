"""Tests of the Dockerfile front end."""
