"""Traced graphs: written to files and read back, run a stretch at a time, held against one another."""
