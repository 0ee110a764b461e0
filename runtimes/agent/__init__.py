"""What runs on a device: Python 3.8, the standard library, numpy and one runtime; sent there as one file."""
