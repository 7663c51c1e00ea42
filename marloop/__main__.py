"""``marloop``, and ``python -m marloop``: one command line for all programs, which it imports when needed."""

from marloop.group import group


def main() -> None:
    """Run the command line."""
    try:
        group()(prog_name="marloop")
    except (ModuleNotFoundError, OSError) as error:
        from serving.command_line import unforeseen  # takes longer than --help should

        unforeseen(error)


if __name__ == "__main__":
    main()
