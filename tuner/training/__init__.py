"""One trial: the network, its head, a training run, logistic regression."""
