"""EdgefoldExport: `optimum-cli export edgefold STUDENT OUT`, which is `edgefold export STUDENT --out OUT`."""

from argparse import REMAINDER, ArgumentParser

from optimum.commands.base import BaseOptimumCLICommand, CommandInfo


class EdgefoldExport(BaseOptimumCLICommand):  # type: ignore[misc]  # optimum has no types
    """Registered with optimum by edgefold's file in its namespace `optimum.commands.register`."""

    COMMAND = CommandInfo(
        name="edgefold", help="Export a student of edgefold, or any checkpoint, checked against torch."
    )

    @staticmethod
    def parse_args(parser: ArgumentParser) -> None:
        parser.add_argument("student", help="folder of a student, or of any checkpoint")
        parser.add_argument("out", help="folder for the artifact")
        parser.add_argument(
            "options",
            nargs=REMAINDER,
            help="options of `edgefold export` (which lists them with --help), as in: --precision fp16 --overwrite",
        )

    def run(self) -> None:
        """Leaves with the exit status of `edgefold export`."""
        from edgefold.cli.application import app

        given = self.args
        app(["export", given.student, "--out", given.out, *given.options], prog_name="edgefold")
