"""What tapetum is measured by: each table is written again by one command, `python -m benchmarks.NAME`."""
