"""`edgefold doctor`: what is installed, which runtimes and devices work, and what to do about those that do not."""

from edgefold.cli.answers import Answer


def examine_machine() -> Answer:
    """List Python, packages, runtimes and this processor, and say what to do about what is missing."""
    from edgefold.cli.examination import examine

    return examine()
