"""The build cache: what a step made once need not be made again."""
