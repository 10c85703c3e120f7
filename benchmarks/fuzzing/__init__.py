"""What `python -m benchmarks.fuzz` is made of: parsers, small files, damage, a process that is watched."""
