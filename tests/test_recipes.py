"""Recipes: what is accepted, what is refused and in which words, and that a resolved recipe reads back the same."""

from pathlib import Path

import pytest
import yaml

from edgefold.errors import InputError
from edgefold.masks.steps import NM, Block, Unstructured
from edgefold.penalties import (
    L1,
    PENALTIES,
    ActivationL1,
    ElasticNet,
    GroupLasso,
    NuclearNorm,
    Orthogonality,
)
from edgefold.plans import Bottleneck, DropLayers, LowRank, Project, Select, ShareLayers
from edgefold.recipes.data import DATA
from edgefold.recipes.penalties import PenaltyEntry
from edgefold.recipes.recipe import dump_recipe, load_recipe

MINIMAL = """\
teacher: teacher
data: {train: train.csv, validation: validation.csv, test: /data/test.csv}
plan:
  - project: {dimension: hidden, size: 128}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return path


def refusal(folder: Path, text: str) -> str:
    path = write(folder, text)
    with pytest.raises(InputError) as caught:
        load_recipe(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_defaults_and_resolved_paths(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, MINIMAL))
    assert recipe.teacher == tmp_path / "teacher"
    assert recipe.data.train == tmp_path / "train.csv"
    assert recipe.data.test == Path("/data/test.csv")
    assert (recipe.data.text, recipe.data.label, recipe.training.mode) == ("text", "label", "weights")


def test_plan_becomes_steps(tmp_path: Path) -> None:
    text = MINIMAL + "  - select: {dimension: ffn, size: 512}\n  - low_rank: {where: '*embeddings*', rank: 64}\n"
    plan = load_recipe(write(tmp_path, text)).to_plan()
    assert list(plan.steps) == [Project("hidden", 128), Select("ffn", 512), LowRank("*embeddings*", 64)]


def test_structural_steps(tmp_path: Path) -> None:
    text = MINIMAL + (
        "  - drop_layers: {keep: [1, 3]}\n  - share_layers: {}\n  - bottleneck: {size: 16}\n"
        "  - low_rank: {where: dense, energy: 0.9}\nvocabulary: {min_count: 2}\n"
    )
    recipe = load_recipe(write(tmp_path, text))
    steps = [DropLayers((1, 3)), ShareLayers(), Bottleneck(16), LowRank("dense", energy=0.9)]
    assert list(recipe.to_plan().steps) == [Project("hidden", 128), *steps]
    assert recipe.vocabulary is not None
    assert (recipe.vocabulary.keep, recipe.vocabulary.min_count) == ("used", 2)
    dump_recipe(recipe, tmp_path / "resolved.yaml")
    assert load_recipe(tmp_path / "resolved.yaml") == recipe


def test_mask_steps(tmp_path: Path) -> None:
    text = MINIMAL + (
        "  - unstructured: {sparsity: 0.8, where: encoder, score: movement}\n  - nm: {n: 2, m: 4, score: wanda}\n"
        "  - block: {sparsity: 0.5, shape: [8, 1], begin: 0.1, end: 1}\n"
    )
    recipe = load_recipe(write(tmp_path, text))
    steps = [Unstructured(0.8, "encoder", "movement"), NM(2, 4, score="wanda"), Block(0.5, (8, 1), begin=0.1, end=1.0)]
    assert list(recipe.to_plan().steps) == [Project("hidden", 128), *steps]


def test_penalties(tmp_path: Path) -> None:
    text = MINIMAL + (
        "penalties:\n  - l1: {strength: 1e-4}\n  - nuclear_norm: {strength: 1.0, where: query, every: 5}\n"
        "  - group_lasso: {strength: 0.1, groups: ffn}\n  - elastic_net: {strength: 2, l1_share: 1, proximal: false}\n"
        "  - orthogonality: {strength: 0.1}\n  - activation_l1: {strength: 0.1, where: intermediate}\n"
    )
    recipe = load_recipe(write(tmp_path, text))
    assert recipe.to_penalties() == (
        L1(1e-4),
        NuclearNorm(1.0, "query", every=5),
        GroupLasso(0.1, "ffn"),
        ElasticNet(2.0, 1.0, proximal=False),
        Orthogonality(0.1),
        ActivationL1(0.1, "intermediate"),
    )
    assert list(PenaltyEntry.model_fields) == list(PENALTIES)
    dump_recipe(recipe, tmp_path / "resolved.yaml")
    assert load_recipe(tmp_path / "resolved.yaml") == recipe


def test_objectives_and_teacher_caches(tmp_path: Path) -> None:
    from edgefold.distillation import Contrast, Objective
    from edgefold.jobs.stage_runs import to_objective

    text = MINIMAL + (
        "objective: {attention: 1, contrastive: 0.1, contrast: {positives: labels, pooling: cls}, "
        "layer_map: [[0, 1], [1, 3]], relation_heads: 4}\nteacher_cache: {memory_gib: 0, folder: cache}\n"
    )
    recipe = load_recipe(write(tmp_path, text))
    expected = Objective(
        attention=1,
        contrastive=0.1,
        contrast=Contrast("labels", pooling="cls"),
        layer_map=((0, 1), (1, 3)),
        relation_heads=4,
    )
    assert to_objective(recipe) == expected
    assert (recipe.teacher_cache.memory_gib, recipe.teacher_cache.folder) == (0, tmp_path / "cache")
    dump_recipe(recipe, tmp_path / "resolved.yaml")
    assert load_recipe(tmp_path / "resolved.yaml") == recipe
    assert to_objective(load_recipe(write(tmp_path, MINIMAL))) == Objective()


def test_numbers_that_yaml_reads_as_text(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, MINIMAL + "training: {learning_rate: 8e-4, bf16: true}\n"))
    assert recipe.training.learning_rate == 8e-4
    assert recipe.training.bf16 is True


def test_load_of_dump_is_the_same_recipe(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, MINIMAL + "training: {seed: 3, learning_rate: 1e-5}\n"))
    dump_recipe(recipe, tmp_path / "elsewhere" / "resolved.yaml")
    assert load_recipe(tmp_path / "elsewhere" / "resolved.yaml") == recipe
    assert yaml.safe_load((tmp_path / "elsewhere" / "resolved.yaml").read_text())["objective"]["temperature"] == 2.0


def test_a_recipe_is_immutable(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, MINIMAL))
    with pytest.raises(ValueError, match="frozen"):
        recipe.training.seed = 1  # type: ignore[misc]


DATA_OF = {
    "token-classification": "tags: pos, max_length: 64",
    "question-answering": "max_length: 64, stride: 16",
    "language-modeling": "block_length: 64",
    "masked-language-modeling": "pairs: sop, mask_share: 0.2",
    "image-classification": "",
    "translation": "source: en, target: fr",
    "summarization": "max_source_length: 512",
    "speech-recognition": "max_target_length: 64",
    "recommendation": "columns: [user, film, shop]",
}


@pytest.mark.parametrize("task", DATA_OF)
def test_every_task_has_its_own_data(tmp_path: Path, task: str) -> None:
    """Read back from the resolved recipe as they were, and with paths from the recipe's folder."""
    keys = f", {DATA_OF[task]}" if DATA_OF[task] else ""
    text = MINIMAL.replace("test: /data/test.csv", f"test: /data/test.csv{keys}") + f"task: {task}\n"
    recipe = load_recipe(write(tmp_path, text))
    assert type(recipe.data) is DATA[task]
    assert recipe.data.train == tmp_path / "train.csv"
    dump_recipe(recipe, tmp_path / "resolved.yaml")
    again = load_recipe(tmp_path / "resolved.yaml")
    assert again == recipe
    assert type(again.data) is DATA[task]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (MINIMAL + "trainig: {epochs: 3}\n", "line 5: trainig is no known key; did you mean training?"),
        (MINIMAL + "training:\n  learning_rte: 1\n", "line 6: training.learning_rte is no known key; did you mean"),
        (MINIMAL + "training:\n  learning_rte: 1\n", "did you mean training.learning_rate?"),
        (MINIMAL + "epochs: 3\n", "epochs is no known key; did you mean training.epochs?"),
        (MINIMAL + "xyzzy: 3\n", "xyzzy is no known key; known here: teacher, task, data, plan"),
        (
            MINIMAL + "  - project: {dimensoin: hidden, size: 1}\n",
            "plan[1].project.dimensoin is no known key; did you mean",
        ),
        (
            MINIMAL + "  - projekt: {dimension: hidden, size: 1}\n",
            "plan[1].projekt is no known key; did you mean plan[1].project?",
        ),
        (MINIMAL + "training: {epochs: 0}\n", "training.epochs is 0; it should be greater than or equal to 1"),
        (MINIMAL + "training: {epochs: true}\n", "training.epochs is True; it should be a valid integer"),
        (MINIMAL + "training: {bf16: maybe}\n", "training.bf16 is 'maybe'; it should be 'auto', True or False"),
        (
            MINIMAL + "training: {mode: weight}\n",
            "training.mode is 'weight'; it should be 'weights', 'projection' or 'all'",
        ),
        (MINIMAL + "objective: {task: 0, logits: 0, hidden: 0}\n", "objective: task, logits and hidden are all 0"),
        (
            MINIMAL + "objective: {contrast: {positives: label}}\n",
            "objective.contrast.positives is 'label'; it should be 'teacher', 'dropout' or 'labels'",
        ),
        (MINIMAL + "objective: {l1: -0.1}\n", "objective.l1 is -0.1; it should be greater than or equal to 0"),
        (
            MINIMAL + "  - {}\n",
            "plan[1]: a step has exactly one of project, select, low_rank, drop_layers, share_layers, bottleneck, unst",
        ),
        (MINIMAL + "  - drop_layers: {keep: [0], every: 2}\n", "plan[1]: DropLayers(keep=(0,), every=2) needs exactly"),
        (MINIMAL + "  - low_rank: {where: a}\n", "LowRank('a', rank=None, energy=None) needs exactly one of rank and"),
        (MINIMAL + "  - drop_layer: {every: 2}\n", "plan[1].drop_layer is no known key; did you mean plan[1].drop_l"),
        (
            MINIMAL + "  - nm: {n: 4, m: 4}\n",
            "plan[1]: NM(4, 4) must be whole numbers with 1 <= n < m; such as",
        ),
        (
            MINIMAL + "  - unstructured: {sparsity: 80}\n",
            "plan[1].unstructured.sparsity is 80; it should be less",
        ),
        (MINIMAL + "  - nm: {n: 2, m: 4, end: 2}\n", "plan[1].nm.end is 2; it should be less than or equal to 1"),
        (MINIMAL + "penalties: [{}]\n", "penalties[0]: a penalty has exactly one of l1, l2, elastic_net, nuclear_norm"),
        (MINIMAL + "penalties: [l1: {strength: -1}]\n", "penalties[0].l1.strength is -1; it should be greater than"),
        (
            MINIMAL + "penalties: [l3: {strength: 1}]\n",
            "penalties[0].l3 is no known key; known here: l1, l2, elastic",
        ),
        (MINIMAL + "penalties: [l1: {where: a}]\n", "penalties[0].l1.strength is missing"),
        (MINIMAL + "vocabulary: {keep: all}\n", "vocabulary.keep is 'all'; it should be 'used'"),
        (MINIMAL + "  - {project: {dimension: a, size: 1}, select: {dimension: a, size: 1}}\n", "got project, select"),
        (MINIMAL.replace("teacher: teacher\n", ""), "teacher is missing"),
        (
            MINIMAL + "task: tagging\n",
            "line 5: task: 'tagging' is no known task; choose one of text-classification, text-regression, token",
        ),
        (MINIMAL.replace("{train", "{tokens: w, train"), "data.tokens is no known key"),
        (MINIMAL.replace("{train", "{lable: w, train"), "line 2: data.lable is no known key; did you mean data.label?"),
        (
            MINIMAL.replace("{train", "{text: w, train") + "task: translation\n",
            "line 2: data.text is no known key; did you mean data.test?",
        ),
        (MINIMAL.replace("{train", "{max_length: 1, train"), "line 2: data.max_length is 1; it should be greater than"),
        (MINIMAL.replace("test: /data/test.csv", ""), "line 2: data.test is missing"),
        ("", "holds nothing; a recipe is a mapping of keys"),
        ("- a\n- b\n", "holds list; a recipe is a mapping of keys"),
        ("teacher: [a\nplan: 3\n", "line 2, column 5: not valid YAML"),
        ("teacher: a\n\tplan: 3\n", "line 2"),
        (MINIMAL + "teacher: again\n", "line 5: the key teacher stands there already on line 1"),
        (MINIMAL + "training: {seed: 1, seed: 2}\n", "line 5: the key seed stands there already on line 5"),
        ("teacher: !!python/object/apply:os.system ['true']\n", "line 1"),
        ("teacher: a\n---\nteacher: b\n", "line 2"),
        ("teacher: \x00\n", "not valid YAML"),
    ],
)
def test_refusals(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in refusal(tmp_path, text)


@pytest.mark.parametrize(
    ("more", "whole"),
    [
        ("plan: []\n", "plan is []; it needs 1 or more"),
    ],
)
def test_an_empty_list_is_told_as_it_is(tmp_path: Path, more: str, whole: str) -> None:
    assert whole in refusal(tmp_path, MINIMAL.split("plan:")[0] + more)


def test_a_wrong_step_is_told_alone(tmp_path: Path) -> None:
    said = refusal(tmp_path, MINIMAL.split("plan:")[0] + "plan: [select: {dimension: a, size: 0}]\n")
    assert "plan[0].select.size is 0" in said
    assert "or more" not in said


@pytest.mark.parametrize(
    ("more", "whole"),
    [
        ("teacher: again\n", ", line 5: the key teacher stands there already on line 1; keep one."),
        ("trainig: {epochs: 3}\n", ": line 5: trainig is no known key; did you mean training?"),
    ],
)
def test_a_refusal_names_the_file_once_and_ends_once(tmp_path: Path, more: str, whole: str) -> None:
    message = refusal(tmp_path, MINIMAL + more)
    assert message.endswith(f".yaml{whole}")
    assert message.count(".yaml") == 1


def test_every_error_is_named_in_the_order_of_the_file(tmp_path: Path) -> None:
    message = refusal(tmp_path, MINIMAL + "training: {epochs: 0}\nobjective: {task: x}\ncalibration: {sample: 1}\n")
    places = [message.index(key) for key in ("training.epochs", "objective.task", "calibration.sample")]
    assert places == sorted(places)


def test_missing_file_folder_and_bytes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"There is no recipe .*none\.yaml"):
        load_recipe(tmp_path / "none.yaml")
    with pytest.raises(InputError, match="is a folder"):
        load_recipe(tmp_path)
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(InputError, match=r"bytes\.yaml cannot be read as UTF-8"):
        load_recipe(tmp_path / "bytes.yaml")


def test_check_paths_names_the_key(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, MINIMAL))
    with pytest.raises(InputError, match=r"teacher: .*teacher is not a folder"):
        recipe.check_paths()
    (tmp_path / "teacher").mkdir()
    with pytest.raises(InputError, match=r"has no config\.json"):
        recipe.check_paths()
    (tmp_path / "teacher" / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"data\.train: .*train\.csv is not a file"):
        recipe.check_paths()
    (tmp_path / "teacher" / "config.json").rename(tmp_path / "teacher" / "edgefold.json")
    with pytest.raises(InputError, match=r"data\.train: .*train\.csv is not a file"):
        recipe.check_paths()
