"""`python -m mmsb` is the command line."""

from mmsb.cli import main

if __name__ == "__main__":
    main()
