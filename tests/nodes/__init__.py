"""Three nodes, as real processes, on a real store: what is promised of them is seen from outside, by their clients."""
