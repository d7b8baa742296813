"""Following a run: what the loop tells, the console, a run at a glance, and who reads it elsewhere. No jax here."""
