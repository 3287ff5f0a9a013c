"""What a fleet watches: the metrics of a run, and spans where somebody asked for them."""
