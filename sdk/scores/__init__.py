"""Scores of answers, tags, rankings, translations and transcripts, in plain Python."""
