"""The documentation: pages, and the modules that write what no hand may write (`python -m docs.generate`)."""
