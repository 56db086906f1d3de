"""File-system primitives that know nothing of images."""
