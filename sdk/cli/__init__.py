"""The command line: nothing heavy is imported before a command needs it."""


def main() -> None:
    """The console entry."""
    from edgefold.cli.application import app
    from edgefold.cli.stopping import heed_signals

    heed_signals()
    app(prog_name="edgefold")
