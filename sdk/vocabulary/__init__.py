"""Vocabularies: a model and its tokenizer cut down to the tokens in use."""
