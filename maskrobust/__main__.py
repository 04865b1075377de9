"""`python -m maskrobust` is the command `maskrobust`; torchrun starts it by this name on every process."""

from maskrobust.train.cli import main

if __name__ == "__main__":
    main()
