"""TensorRT: what its parsers take, and the build of an engine in a process of its own. Never imports torch."""
