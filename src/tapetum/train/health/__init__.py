"""Whether a run is healthy: what is measured (probe), the verdict in words (judge), and the file (watch)."""
