rule knn:
    input:
        unpack(get_embeddings),
        subsets=get_subset_files,
    output:
        metrics="results/metrics/{encoder}/{dataset}-{evaluation}.json",
    log:
        "logs/knn/{encoder}/{dataset}-{evaluation}.log",
    benchmark:
        "results/benchmarks/knn/{encoder}/{dataset}-{evaluation}.tsv"
    wildcard_constraints:
        evaluation=any_of(experiment.evaluations_of("knn")),
    container:
        get_container("faiss")
    resources:
        gpu=1,
        mem_mb=scaled(16000),
        runtime=scaled(60),
        cpus_per_task=get_cores("knn"),
    params:
        options=get_evaluation_options,
        subsets=get_subset_flags,
        code=source.fingerprint("stages.knn"),
        image=get_image("faiss"),
    shell:
        "OMP_NUM_THREADS={resources.cpus_per_task} python -m stages.lease {resources.gpu}"
        " python -m stages.knn {params.options} {params.subsets}"
        " --name {wildcards.evaluation}"
        " --train {input.train[0]} --val {input.val[0]} --metrics {output.metrics} > {log} 2>&1"


rule linear_probe:
    input:
        unpack(get_probe_input),
    output:
        metrics="results/metrics/{encoder}/{dataset}-{evaluation}.json",
    log:
        "logs/linear_probe/{encoder}/{dataset}-{evaluation}.log",
    benchmark:
        "results/benchmarks/linear_probe/{encoder}/{dataset}-{evaluation}.tsv"
    wildcard_constraints:
        evaluation=any_of(experiment.evaluations_of("linear")),
    container:
        get_container("torch")
    resources:
        gpu=1,
        mem_mb=scaled(16000),
        runtime=scaled(1440),
        cpus_per_task=get_cores("linear_probe"),
    params:
        options=get_evaluation_options,
        files=get_probe_flags,
        code=get_probe_code,
        image=get_image("torch"),
        checkpoints="results/checkpoints/{encoder}--{dataset}--{evaluation}",
    shell:
        "OMP_NUM_THREADS={threads} python -m stages.lease {resources.gpu}"
        " python -m stages.linear_probe {params.options} {params.files}"
        " --name {wildcards.evaluation} --workers $(({resources.cpus_per_task} - 1))"
        " --train {input.train[0]} --val {input.val[0]} --metrics {output.metrics}"
        " --checkpoints {params.checkpoints} --checkpoint-key {params.code}-{params.image:q} > {log} 2>&1"


rule retrieval:
    input:
        val=tracked("results/embeddings/{encoder}/{dataset}-val.h5"),
    output:
        metrics="results/metrics/{encoder}/{dataset}-{evaluation}.json",
    log:
        "logs/retrieval/{encoder}/{dataset}-{evaluation}.log",
    benchmark:
        "results/benchmarks/retrieval/{encoder}/{dataset}-{evaluation}.tsv"
    wildcard_constraints:
        evaluation=any_of(experiment.evaluations_of("retrieval")),
    container:
        get_container("faiss")
    resources:
        mem_mb=scaled(16000),
        runtime=scaled(60),
    params:
        options=get_evaluation_options,
        code=source.fingerprint("stages.retrieval"),
        image=get_image("faiss"),
    shell:
        "OMP_NUM_THREADS={threads} python -m stages.retrieval {params.options} --name {wildcards.evaluation}"
        " --val {input.val[0]} --metrics {output.metrics} > {log} 2>&1"


rule voc_classification:
    input:
        unpack(get_embeddings),
    output:
        metrics="results/metrics/{encoder}/{dataset}-{evaluation}.json",
    log:
        "logs/voc_classification/{encoder}/{dataset}-{evaluation}.log",
    benchmark:
        "results/benchmarks/voc_classification/{encoder}/{dataset}-{evaluation}.tsv"
    wildcard_constraints:
        evaluation=any_of(experiment.evaluations_of("voc-classification")),
    container:
        get_container("faiss")
    resources:
        mem_mb=scaled(8000),
        runtime=scaled(240),
    params:
        options=get_evaluation_options,
        code=source.fingerprint("stages.voc_classification"),
        image=get_image("faiss"),
    shell:
        "OMP_NUM_THREADS={threads} python -m stages.voc_classification {params.options}"
        " --name {wildcards.evaluation} --train {input.train[0]} --val {input.val[0]}"
        " --metrics {output.metrics} > {log} 2>&1"


rule cluster:
    input:
        unpack(get_embeddings),
    output:
        assignments=with_digest("results/clusters/{encoder}/{dataset}-{evaluation}.h5"),
    log:
        "logs/cluster/{encoder}/{dataset}-{evaluation}.log",
    benchmark:
        "results/benchmarks/cluster/{encoder}/{dataset}-{evaluation}.tsv"
    wildcard_constraints:
        evaluation=any_of(experiment.evaluations_of("cluster-alignment")),
    container:
        get_container("faiss")
    resources:
        gpu=1,
        mem_mb=scaled(16000),
        runtime=scaled(240),
        cpus_per_task=get_cores("cluster"),
    params:
        options=get_evaluation_options,
        code=source.fingerprint("stages.cluster"),
        image=get_image("faiss"),
    shell:
        "OMP_NUM_THREADS={resources.cpus_per_task} python -m stages.lease {resources.gpu}"
        " python -m stages.cluster {params.options}"
        " --train {input.train[0]} --val {input.val[0]} --assignments {output.assignments[0]} > {log} 2>&1"


rule cluster_teacher:
    input:
        train=tracked("results/embeddings/{encoder}/{dataset}-train.h5"),
    output:
        assignments=with_digest("results/clusters/{encoder}/{dataset}-k{clusters}.h5"),
    log:
        "logs/cluster_teacher/{encoder}/{dataset}-k{clusters}.log",
    benchmark:
        "results/benchmarks/cluster_teacher/{encoder}/{dataset}-k{clusters}.tsv"
    wildcard_constraints:
        clusters=r"\d+",
    container:
        get_container("faiss")
    resources:
        gpu=1,
        mem_mb=scaled(16000),
        runtime=scaled(240),
        cpus_per_task=get_cores("cluster_teacher"),
    params:
        code=source.fingerprint("stages.cluster"),
        image=get_image("faiss"),
    shell:
        "OMP_NUM_THREADS={resources.cpus_per_task} python -m stages.lease {resources.gpu}"
        " python -m stages.cluster --clusters {wildcards.clusters}"
        " --train {input.train[0]} --assignments {output.assignments[0]} > {log} 2>&1"


rule align:
    input:
        assignments=tracked("results/clusters/{encoder}/{dataset}-{evaluation}.h5"),
    output:
        metrics="results/metrics/{encoder}/{dataset}-{evaluation}.json",
    log:
        "logs/align/{encoder}/{dataset}-{evaluation}.log",
    benchmark:
        "results/benchmarks/align/{encoder}/{dataset}-{evaluation}.tsv"
    wildcard_constraints:
        evaluation=any_of(experiment.evaluations_of("cluster-alignment")),
    localrule: True
    container:
        get_container("faiss")
    resources:
        mem_mb=scaled(8000),
        runtime=scaled(60),
    params:
        code=source.fingerprint("stages.align"),
        image=get_image("faiss"),
    shell:
        "OMP_NUM_THREADS={threads} python -m stages.align --name {wildcards.evaluation}"
        " --assignments {input.assignments[0]} --metrics {output.metrics} > {log} 2>&1"


rule canary:
    input:
        unpack(get_canary_input),
    output:
        metrics="results/canaries/{encoder}.json",
    log:
        "logs/canary/{encoder}.log",
    benchmark:
        "results/benchmarks/canary/{encoder}.tsv"
    wildcard_constraints:
        encoder=any_of(experiment.canaries),
    # Before students that learn from what may be wrong.
    priority: 1
    container:
        get_container("faiss")
    resources:
        gpu=1,
        mem_mb=scaled(16000),
        runtime=scaled(60),
        cpus_per_task=get_cores("canary"),
    params:
        options=get_canary_options,
        code=source.fingerprint("stages.canary"),
        image=get_image("faiss"),
    shell:
        "OMP_NUM_THREADS={resources.cpus_per_task} python -m stages.lease {resources.gpu}"
        " python -m stages.canary {params.options}"
        " --train {input.train[0]} --val {input.val[0]} --metrics {output.metrics} > {log} 2>&1"


rule canaries:
    input:
        get_canaries(),
    localrule: True
