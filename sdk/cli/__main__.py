"""`python -m edgefold.cli`, for environments whose scripts are not on the path."""

from edgefold.cli import main

main()
