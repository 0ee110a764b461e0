"""TASKS: the tasks by the name that a recipe calls them."""

from edgefold.tasks.image_classification import IMAGE_CLASSIFICATION
from edgefold.tasks.language_modeling import LANGUAGE_MODELING
from edgefold.tasks.masked_language_modeling import MASKED_LANGUAGE_MODELING
from edgefold.tasks.question_answering import QUESTION_ANSWERING
from edgefold.tasks.recommendation import RECOMMENDATION
from edgefold.tasks.sequence_to_sequence import SEQUENCE_TO_SEQUENCE
from edgefold.tasks.speech_recognition import SPEECH_RECOGNITION
from edgefold.tasks.task import Task
from edgefold.tasks.tensors import TENSOR_CLASSIFICATION, TENSOR_REGRESSION
from edgefold.tasks.text_classification import TEXT_CLASSIFICATION
from edgefold.tasks.text_regression import TEXT_REGRESSION
from edgefold.tasks.token_classification import TOKEN_CLASSIFICATION

TASKS: dict[str, Task] = {
    "text-classification": TEXT_CLASSIFICATION,
    "text-regression": TEXT_REGRESSION,
    "token-classification": TOKEN_CLASSIFICATION,
    "question-answering": QUESTION_ANSWERING,
    "language-modeling": LANGUAGE_MODELING,
    "masked-language-modeling": MASKED_LANGUAGE_MODELING,
    "image-classification": IMAGE_CLASSIFICATION,
    "translation": SEQUENCE_TO_SEQUENCE,
    "summarization": SEQUENCE_TO_SEQUENCE,
    "speech-recognition": SPEECH_RECOGNITION,
    "recommendation": RECOMMENDATION,
    "tensor-classification": TENSOR_CLASSIFICATION,
    "tensor-regression": TENSOR_REGRESSION,
}
