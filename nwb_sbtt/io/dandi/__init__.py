"""DANDI archives: find, fetch, stream, check and share files."""
