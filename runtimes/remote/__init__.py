"""Devices reached over SSH: nothing is installed there and nothing listens there; an agent goes with the connection."""
