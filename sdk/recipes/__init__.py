"""Recipes: the sections of the YAML file that says what to compress, and how."""
