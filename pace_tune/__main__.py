"""`python -m pace_tune`."""

from pace_tune.cli.main import main

if __name__ == "__main__":
    main()
