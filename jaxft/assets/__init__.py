"""The embedded default: a tiny pretrained encoder, the text it has read, and the script that made both."""

from pathlib import Path

ENCODER = Path(__file__).parent / "encoder"
"""Its checkpoint, in the layout of Hugging Face."""
