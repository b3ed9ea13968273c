"""What the rules need to know, as plain Python that can be imported and tested without Snakemake.

`config` turns config.yaml into encoders, datasets and evaluations, and `demands` asks whether the datasets have what
these need; `source` reads options and fingerprints from the stages' source; `images` knows the containers; `content`
fingerprints the users' own data.
"""
