"""The benchmark and the models under lm-evaluation-harness (the extra `harness`): tasks in its YAML, and a model.

On the command line:

    mentallama data lm-eval-tasks --data data/imhi:test --out tasks
    mentallama-lm-eval --model mentallama --model_args model=runs/mine --include_path tasks --tasks imhi

In a program that runs the harness itself:

    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager
    from mentallama_jax.harness.registration import register

    register()  # from here on "mentallama" means our models
    simple_evaluate(
        model="mentallama",
        model_args="model=runs/mine",
        tasks=["imhi"],
        task_manager=TaskManager(include_path="tasks"),
    )

`task_folder.write_tasks` writes the tasks from records that a program holds.
"""
