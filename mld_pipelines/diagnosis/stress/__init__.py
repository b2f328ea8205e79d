"""What stressed copies of a reference teach about windows of production."""
