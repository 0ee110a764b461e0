"""Where students start: from calibrated activations, in closed form, before any training."""
