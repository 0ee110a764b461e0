"""edgefold: train a network smaller, fold what was trained into plain weights, export it, measure it where it will run."""
