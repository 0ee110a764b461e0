"""Integrations: edgefold inside the programs of others. Each file needs its own package and is imported when wanted."""
