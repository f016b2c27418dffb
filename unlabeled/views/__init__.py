"""What happens to a batch before the loss: random views of each sample."""
