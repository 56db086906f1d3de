"""The Textual app on top of chimage_core."""
