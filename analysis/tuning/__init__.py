"""The best learning rate of each pattern, and how an effect turns with the amount of training."""
