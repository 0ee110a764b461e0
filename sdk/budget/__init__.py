"""From a budget to a plan: what plans cost to run, what they are likely to lose, and which of them to train."""
