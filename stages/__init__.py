"""The stages of the pipeline: one program a job, from explicit input files to explicit output files.

``python -m stages.knn --help`` explains a stage and runs it on its own.
"""
