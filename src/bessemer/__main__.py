"""``python -m bessemer``, for launchers that start modules: torchrun does."""

from bessemer.cli import main

if __name__ == "__main__":
    main()
