"""What is made of trained parameters: those of the best trials kept, averages, checkpoints, labels for new texts."""
