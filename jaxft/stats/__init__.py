"""What the scores say: one file per question. It reads run folders and files of scores, and never imports jax."""
