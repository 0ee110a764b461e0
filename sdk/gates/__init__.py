"""Gates: training chooses what to cut, by hard concrete gates and a Lagrangian to a target size."""
