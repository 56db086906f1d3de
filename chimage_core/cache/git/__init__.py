"""The build cache in a Git repository."""
