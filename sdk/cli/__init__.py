"""The command line: nothing heavy is imported before a command needs it."""


def main() -> None:
    """The console entry."""
    from edgefold.cli.application import app

    app(prog_name="edgefold")
