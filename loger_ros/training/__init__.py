"""From rendered clips to a checkpoint."""
