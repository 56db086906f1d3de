"""Dockerfiles made by combination, each together with what it must be parsed to, or where it must be refused.

What is expected is put together with the text, of the same parts, and never asked of the parser: an instruction is
words and what they mean (`instructions`, `faulty`); a layout says what stands between words and what that comes to on
the joined line; a frame says what stands around the instruction (`model`). Words for expansion are chains of pieces
with known values (`words`), and what variables hold at the end of a file is written beside it (`variables`).
"""
