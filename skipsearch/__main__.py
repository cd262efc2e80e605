"""The command line, as `python -m skipsearch`."""

from run_search import main

if __name__ == "__main__":
    main()
