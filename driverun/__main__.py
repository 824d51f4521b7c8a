"""`python -m driverun`: the same as the `driverun` command."""

from driverun.cli import main

if __name__ == "__main__":
    main()
