"""Tasks as data: what a task is, the strict reader of its YAML file, the check of its labels, templates, the ten files.

The registry that everything else asks is `imhi.tasks`.
"""
