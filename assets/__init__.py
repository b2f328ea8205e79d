"""The Dagster code location: thin functions that read a partition, call `mld_pipelines`, write, and return metadata."""
