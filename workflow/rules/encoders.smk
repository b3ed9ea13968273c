rule pretrain:
    input:
        unpack(get_training_input),
    output:
        weights=with_digest("results/encoders/{encoder}/weights.safetensors"),
        history="results/encoders/{encoder}/history.csv",
    log:
        "logs/pretrain/{encoder}.log",
    benchmark:
        "results/benchmarks/pretrain/{encoder}.tsv"
    wildcard_constraints:
        encoder=any_of(experiment.pretrained),
    container:
        get_container("torch")
    resources:
        gpu=1,
        mem_mb=16000,
        runtime=1440,
        cpus_per_task=1,
    params:
        options=get_training_options,
        code=lambda wildcards: get_training_code(wildcards, "pretrain"),
        image=get_image("torch"),
        checkpoints="results/checkpoints/{encoder}",
    shell:
        "OMP_NUM_THREADS={threads} python -m stages.pretrain {params.options} --name {wildcards.encoder}"
        " --train {input.train[0]} --workers $(({resources.cpus_per_task} - 1))"
        " --weights {output.weights[0]} --history {output.history}"
        " --checkpoints {params.checkpoints} --checkpoint-key {params.code} > {log} 2>&1"


rule distill:
    input:
        unpack(get_training_input),
    output:
        weights=with_digest("results/encoders/{encoder}/weights.safetensors"),
        history="results/encoders/{encoder}/history.csv",
    log:
        "logs/distill/{encoder}.log",
    benchmark:
        "results/benchmarks/distill/{encoder}.tsv"
    wildcard_constraints:
        encoder=any_of(experiment.students),
    container:
        get_container("torch")
    resources:
        gpu=1,
        mem_mb=16000,
        runtime=1440,
        cpus_per_task=1,
    params:
        options=get_training_options,
        teacher=get_teacher_flag,
        code=lambda wildcards: get_training_code(wildcards, "distill"),
        image=get_image("torch"),
        checkpoints="results/checkpoints/{encoder}",
    shell:
        "OMP_NUM_THREADS={threads} python -m stages.distill {params.options} --name {wildcards.encoder}"
        " --train {input.train[0]} {params.teacher} {input.teacher[0]}"
        " --workers $(({resources.cpus_per_task} - 1))"
        " --weights {output.weights[0]} --history {output.history}"
        " --checkpoints {params.checkpoints} --checkpoint-key {params.code} > {log} 2>&1"
