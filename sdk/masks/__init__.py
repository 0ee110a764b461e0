"""Masks: weights held at zero, single ones, blocks, or N of every M."""
