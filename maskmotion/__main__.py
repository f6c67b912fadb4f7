"""`python -m maskmotion` is the command line."""

from maskmotion.cli import main

main()
