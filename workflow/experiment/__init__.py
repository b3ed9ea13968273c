"""What the rules need to know, as plain Python that can be imported and tested without Snakemake.

The config: `config` holds the checked experiment, which `outline` (against the schema), `datasets`, `encoders`,
`students` (with `heads`), `evaluations` (with `references`) and `tables` make of config.yaml, each a part of it.
`options` checks what is passed on to the stages, `demands` whether the datasets have what is asked of them,
`configfile` the file itself, and `errors` says what is wrong.

The stages: `source` reads their options and fingerprints from their source, and `commands` writes their command lines.

What else a run depends on: `content` fingerprints the users' own data, `images` knows the containers, `machine` what is
here, `slurm` what a profile asks of a cluster, and `nodes` how one training runs on several.

For readers: `plan` says what is to come, `document` writes docs/config.md, and `gather` joins pages of results.
"""
