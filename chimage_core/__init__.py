"""chimage's engine: build and manage container images without any privilege. Knows nothing of terminals."""

__version__ = "0.1.0"
