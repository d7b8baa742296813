"""What an argument of a method or a network may be. `spec` reads these names from the source; no jax here."""

Share = float
"""A number from 0 to 1."""
BelowOne = float
"""A number from 0 and below 1."""
NotNegative = float
"""A finite number from 0 on."""
Positive = float
"""A finite number above 0."""
Count = int
"""An integer from 1 on."""
Natural = int
"""An integer from 0 on."""
