"""The loop over blocks of steps: which trial has which slot, what the host keeps of it, what stops and resumes it."""
