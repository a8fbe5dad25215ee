"""The IMHI benchmark, and tasks of one's own: the table of tasks, records, readers, writers, prompts, mixtures.

`tasks` is the table, filled from YAML files; every wording comes from it. A `records.Record` is one question about a
post.

    readers, build, annotations   files of every layout -> records, by way of sources, hub, tables, gold, collect
    writers                       records -> JSONL, Parquet, released CSV
    mixture                       which records a run sees
    prompts                       record -> text and tokens, the same in training and generation
    labels                        reading a model's label
    check                         what is wrong or risky in data, by way of survey, cleaning, leaks; lengths in tokens

Nothing here imports jax, and nothing heavy is imported before it is used.
"""
