"""optimum-cli reads every file of its namespace optimum.commands.register; this one brings `export edgefold`."""

from optimum.commands.export.base import ExportCommand

from edgefold.integrations.optimum_command import EdgefoldExport

REGISTER_COMMANDS = [(EdgefoldExport, ExportCommand)]
