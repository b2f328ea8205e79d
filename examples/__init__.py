"""Runnable examples; the tests execute every one of them."""
