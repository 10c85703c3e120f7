"""`python -m tapetum` is the command line."""

from tapetum.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
