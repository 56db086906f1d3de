"""Instructions to snapshots."""
