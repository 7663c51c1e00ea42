"""``marloop``, and ``python -m marloop``: one command line for all programs, which it imports when needed."""

from marloop.group import group


def main() -> None:
    """Run the command line."""
    group()(prog_name="marloop")


if __name__ == "__main__":
    main()
