# Where the stages run. What cannot work there is refused before anything starts or is submitted.

import os
from pathlib import Path

from snakemake.settings.types import DeploymentMethod

from experiment import checkpoints, configfile, machine, nodes, slurm
from experiment.errors import require


def scaled(amount):
    """A resource of which a job that failed for lack of it gets more: the amount, then twice as much, and so on."""
    return lambda wildcards, attempt: amount * attempt


def get_data_folders():
    """The user's own folders of images."""
    return [dataset.options["path"] for dataset in experiment.datasets.values() if dataset.options.get("path")]


def get_asked(rule):
    """What the profile and the command line say of the resources of a rule's jobs, by name."""
    settings = workflow.resource_settings
    given = {**settings._parsed_default_resources, **settings._parsed_overwrite_resources.get(rule, {})}
    return {name: str(resource.raw) for name, resource in given.items()}


def get_node_resources(rule):
    """What a training's job asks for, and how its command begins, which depends on how many nodes it takes."""
    arguments = workflow.deployment_settings.apptainer_args
    inside = nodes.in_container(get_container("torch"), arguments) if in_containers else ""
    return nodes.resources(rule, get_asked(rule), inside)


def get_cores(rule):
    """How many cores a rule's job is given to feed its GPUs: on this machine their share, elsewhere what the site says."""
    if not (workflow.is_main_process and is_local):
        return 1
    # A dry run has as many as one likes.
    cores = min(workflow.resource_settings.cores or 1, len(os.sched_getaffinity(0)))
    return machine.cores_for(nodes.gpus_each(rule, get_asked(rule)), cores, os.environ)


def on_one_node(rule):
    """Whether a training's job takes one node; a job of several starts its container itself, on each."""
    return nodes.count(rule, get_asked(rule)) == 1


def get_half_precision():
    return [name for name, encoder in experiment.trained.items() if encoder.options.get("precision") == "half"]


def check_site():
    """Whether the images, the folders and what is asked of SLURM are there."""
    if in_containers:
        machine.check_binds(workflow.deployment_settings.apptainer_args)
        if not workflow.output_settings.dryrun:
            images.check({get_container(name): get_image(name) for name in ("torch", "faiss")})
    rules = ("default-resources", *workflow.resource_settings._parsed_overwrite_resources)
    asked = {rule: get_asked(rule) for rule in rules}
    nodes.check(asked, is_local=is_local, image=get_container("torch") if in_containers else None)
    if not is_local:
        names = ("slurm_partition", "gpu_model")
        partitions, models = ({each[name] for each in asked.values() if name in each} for name in names)
        slurm.check_partitions(partitions, slurm.partitions())
        slurm.check_gpu_models(models, slurm.gpu_models(), get_half_precision())


def require_folders():
    """Refuse to pack a folder that is not there: the pack of when it was would be deleted first."""
    for job in get_jobs_to_come():
        if job.rule.name == "fetch_dataset" and (folder := get_source_folder(job.wildcards)):
            content.require(f"datasets.{job.wildcards.dataset}.path", folder, get_source_parts(job.wildcards))


def require_checkpoints():
    """Refuse to start without a file that no job can get: the jobs before that which reads it may take days."""
    for job in get_jobs_to_come():
        if job.rule.name == "fetch_weights":
            checkpoints.require(get_encoder(job.wildcards), get_mirror())


def require_gpus():
    """Refuse a training that no CPU does: the jobs before it may take days."""
    if is_local and not machine.gpus(os.environ):
        for job in get_jobs_to_come():
            if job.rule.name in nodes.TRAININGS:
                machine.refuse_gpu_only(job.wildcards.encoder, get_encoder(job.wildcards).options)


def require_rules():
    """Refuse resources of a rule that there is not, which Snakemake would pass over."""
    for name in workflow.resource_settings._parsed_overwrite_resources:
        require("set-resources", "rule", name, [rule.name for rule in workflow.rules])


in_containers = DeploymentMethod.APPTAINER in workflow.deployment_settings.deployment_method
# Submitted jobs are bounded by `jobs`, Snakemake's nodes; on one machine there are none.
is_local = workflow.resource_settings.nodes is None

try:
    if workflow.is_main_process:
        check_site()
except ConfigError as error:
    sys.exit(f"error: {error}")

machine.set_caches(os.environ, Path(".snakemake/distillery/cache"))
if in_containers:
    workflow.deployment_settings.apptainer_args = machine.container_arguments(
        workflow.deployment_settings.apptainer_args, os.environ, get_data_folders()
    )
# Jobs that want a GPU take turns, each with GPUs of its own (`stages.lease`); where there is none they run on the CPU,
# as many at once as there are cores.
if workflow.is_main_process and is_local and machine.gpus(os.environ):
    workflow.register_resource("gpu", len(machine.gpus(os.environ)))
    machine.share_gpus(os.environ)


onstart:
    try:
        require_rules()
        require_folders()
        require_checkpoints()
        require_gpus()
    except ConfigError as error:
        sys.exit(f"error: {error}")
    # A submitted job reads the config when it starts, which may be days from now, and is to read this one.
    if not is_local:
        workflow.config_settings.configfiles = [configfile.kept(config, Path(".snakemake/distillery/config"))]
