"""Models and data that come as packages of the index, for demos and benchmarks."""
