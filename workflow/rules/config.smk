# The config's file. What is wrong with the default one is told before Snakemake reads it, which would not say where.

import sys
from pathlib import Path

from experiment.configfile import check_file
from experiment.errors import ConfigError

try:
    for file in workflow.configfiles or ["config.yaml"]:
        check_file(Path(file))
except ConfigError as error:
    sys.exit(f"error: config: {error}")

# An experiment given by --configfile stands alone: merged with this one, both would run.
if not workflow.config_settings.configfiles:

    configfile: "config.yaml"
