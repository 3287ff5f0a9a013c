"""Life inside a rented pod: the training as a child, where files survive, and how the pod ends."""
