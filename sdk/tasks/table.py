"""TASKS: the tasks by the name that a recipe calls them."""

from edgefold.tasks.task import Task
from edgefold.tasks.text_classification import TEXT_CLASSIFICATION
from edgefold.tasks.token_classification import TOKEN_CLASSIFICATION

TASKS: dict[str, Task] = {
    "text-classification": TEXT_CLASSIFICATION,
    "token-classification": TOKEN_CLASSIFICATION,
}
