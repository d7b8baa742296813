"""jaxft: fine-tune many seed variants of one pretrained encoder at once."""

__version__ = "0.1.0"
