"""Tar archives to root file systems and back."""
