"""Tracing: which axes of a traced graph carry the same coordinates, one rule for each operator."""
