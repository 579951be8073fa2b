"""`python -m trialogue_adapters`: the command line without an installed script."""

from trialogue_adapters.cli import main

if __name__ == "__main__":
    main()
