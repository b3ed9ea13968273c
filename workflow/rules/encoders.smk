rule fetch_weights:
    output:
        weights=with_digest("results/encoders/{encoder}/weights.safetensors"),
        heads=with_digest("results/encoders/{encoder}/heads.safetensors"),
    log:
        "logs/fetch_weights/{encoder}.log",
    benchmark:
        "results/benchmarks/fetch_weights/{encoder}.tsv"
    wildcard_constraints:
        encoder=any_of(experiment.fetched),
    container:
        get_container("torch")
    resources:
        mem_mb=scaled(8000),
        runtime=scaled(240),
    params:
        checkpoint=lambda wildcards: get_encoder(wildcards).checkpoint,
        size=lambda wildcards: experiment.datasets[get_encoder(wildcards).dataset].size,
        file=lambda wildcards: get_encoder(wildcards).file,
        entry=lambda wildcards: get_encoder(wildcards).entry,
        code=get_checkpoint_code,
        image=get_image("torch"),
    shell:
        "OMP_NUM_THREADS={threads} python -m stages.fetch_weights --checkpoint {params.checkpoint}"
        " --name {wildcards.encoder} --size {params.size} --weights {output.weights[0]}"
        " --heads {output.heads[0]} --downloads results/downloads --lock checkpoints.lock > {log} 2>&1"


rule pretrain:
    input:
        unpack(get_training_input),
    output:
        weights=with_digest("results/encoders/{encoder}/weights.safetensors"),
        heads=with_digest("results/encoders/{encoder}/heads.safetensors"),
        history="results/encoders/{encoder}/history.csv",
    log:
        "logs/pretrain/{encoder}.log",
    benchmark:
        "results/benchmarks/pretrain/{encoder}.tsv"
    wildcard_constraints:
        encoder=any_of(experiment.pretrained),
    container:
        get_container("torch") if on_one_node("pretrain") else None
    resources:
        **get_node_resources("pretrain"),
        gpu=1,
        mem_mb=scaled(16000),
        runtime=scaled(1440),
        cpus_per_task=get_cores("pretrain"),
    params:
        options=get_training_options,
        code=lambda wildcards: get_training_code(wildcards, "pretrain"),
        image=get_image("torch"),
        checkpoints="results/checkpoints/{encoder}",
    shell:
        "{resources.launcher} OMP_NUM_THREADS={threads}"
        " python -m stages.lease {resources.gpu}"
        " python -m stages.training.launch {resources.gpu} stages.pretrain"
        " {params.options} --name {wildcards.encoder} --train {input.train[0]}"
        " --workers $(({resources.cpus_per_task} - 1))"
        " --weights {output.weights[0]} --heads {output.heads[0]} --history {output.history}"
        " --checkpoints {params.checkpoints} --checkpoint-key {params.code}-{params.image:q} > {log} 2>&1"


rule distill:
    input:
        unpack(get_training_input),
    output:
        weights=with_digest("results/encoders/{encoder}/weights.safetensors"),
        heads=with_digest("results/encoders/{encoder}/heads.safetensors"),
        history="results/encoders/{encoder}/history.csv",
    log:
        "logs/distill/{encoder}.log",
    benchmark:
        "results/benchmarks/distill/{encoder}.tsv"
    wildcard_constraints:
        encoder=any_of(experiment.distilled),
    container:
        get_container("torch") if on_one_node("distill") else None
    resources:
        **get_node_resources("distill"),
        gpu=1,
        mem_mb=scaled(16000),
        runtime=scaled(1440),
        cpus_per_task=get_cores("distill"),
    params:
        options=get_training_options,
        teacher=get_teacher_flags,
        code=lambda wildcards: get_training_code(wildcards, "distill"),
        image=get_image("torch"),
        checkpoints="results/checkpoints/{encoder}",
    shell:
        "{resources.launcher} OMP_NUM_THREADS={threads}"
        " python -m stages.lease {resources.gpu}"
        " python -m stages.training.launch {resources.gpu} stages.distill"
        " {params.options} --name {wildcards.encoder} --train {input.train[0]} {params.teacher}"
        " --workers $(({resources.cpus_per_task} - 1))"
        " --weights {output.weights[0]} --heads {output.heads[0]} --history {output.history}"
        " --checkpoints {params.checkpoints} --checkpoint-key {params.code}-{params.image:q} > {log} 2>&1"


rule distill_online:
    input:
        unpack(get_training_input),
    output:
        weights=with_digest("results/encoders/{encoder}/weights.safetensors"),
        heads=with_digest("results/encoders/{encoder}/heads.safetensors"),
        history="results/encoders/{encoder}/history.csv",
        teacher_weights=with_digest("results/encoders/{encoder}--teacher/weights.safetensors"),
        teacher_heads=with_digest("results/encoders/{encoder}--teacher/heads.safetensors"),
        teacher_history="results/encoders/{encoder}--teacher/history.csv",
    log:
        "logs/distill_online/{encoder}.log",
    benchmark:
        "results/benchmarks/distill_online/{encoder}.tsv"
    wildcard_constraints:
        # Asked for a teacher's file, Snakemake tries the teacher's name here, and checks no more than how it begins.
        encoder=rf"({any_of(experiment.online)})(?!--teacher$)",
    container:
        get_container("torch") if on_one_node("distill_online") else None
    resources:
        **get_node_resources("distill_online"),
        gpu=1,
        mem_mb=scaled(16000),
        runtime=scaled(1440),
        cpus_per_task=get_cores("distill_online"),
    params:
        options=get_training_options,
        teacher=get_teacher_architecture,
        code=lambda wildcards: get_training_code(wildcards, "distill_online"),
        image=get_image("torch"),
        checkpoints="results/checkpoints/{encoder}",
    shell:
        "{resources.launcher} OMP_NUM_THREADS={threads}"
        " python -m stages.lease {resources.gpu}"
        " python -m stages.training.launch {resources.gpu} stages.distill_online"
        " {params.options} --name {wildcards.encoder} --train {input.train[0]}"
        " --teacher-name {wildcards.encoder}--teacher --teacher-architecture {params.teacher}"
        " --workers $(({resources.cpus_per_task} - 1))"
        " --weights {output.weights[0]} --heads {output.heads[0]} --history {output.history}"
        " --teacher-weights {output.teacher_weights[0]} --teacher-heads {output.teacher_heads[0]}"
        " --teacher-history {output.teacher_history}"
        " --checkpoints {params.checkpoints} --checkpoint-key {params.code}-{params.image:q} > {log} 2>&1"
