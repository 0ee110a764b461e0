"""The structure of a network: its stacks of layers, dropped, shared or narrowed by bottlenecks."""
