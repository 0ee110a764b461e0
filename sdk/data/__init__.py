"""Training data in files, one form for each task, checked row by row."""
