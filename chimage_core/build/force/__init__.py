"""Root emulation for RUN."""
