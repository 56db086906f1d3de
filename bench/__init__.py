"""Paired measurements of chimage against Charliecloud's ch-image. `python -m bench`; see README.md."""
