"""An unpacked image directory: its skeleton, metadata, permissions, and the changes a step made to it."""
