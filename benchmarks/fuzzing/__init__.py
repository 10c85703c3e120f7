"""What `python -m benchmarks.fuzz` is made of: parsers, small whole files, damage, and a process that is watched."""
