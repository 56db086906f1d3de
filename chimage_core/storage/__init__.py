"""The storage directory: layout, locks, images."""
