"""Named behaviours, their prompts, and their known circuits. Discovery never imports this."""

from edgewise.tasks.published import (
    PUBLISHED,
    ROLES,
    groups_on,
    node_groups,
    published_circuit,
    published_groups,
)
from edgewise.tasks.registry import (
    TASKS,
    custom_names,
    default_model,
    is_task_file,
    list_tasks,
    load_task,
    own_task,
    task_spec,
)
from edgewise.tasks.task import Task, TaskRequest, TaskSpec
from edgewise.tasks.truth import structural_truth
from edgewise.tasks.variants import load_variants

__all__ = [
    "PUBLISHED",
    "ROLES",
    "TASKS",
    "Task",
    "TaskRequest",
    "TaskSpec",
    "custom_names",
    "default_model",
    "groups_on",
    "is_task_file",
    "list_tasks",
    "load_task",
    "load_variants",
    "node_groups",
    "own_task",
    "published_circuit",
    "published_groups",
    "structural_truth",
    "task_spec",
]
