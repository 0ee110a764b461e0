"""What is compared: nothing is missed by the teacher itself, whichever road made the student and however deep it is."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from families import graph_of, make
from torch import Tensor, nn
from torch.fx import GraphModule

from edgefold.distillation import Contrast, Objective
from edgefold.distillation.pairs import find_pairs
from edgefold.distillation.places import MapPair, Pair
from edgefold.distillation.terms import Distillation
from edgefold.errors import InputError
from edgefold.folding import fold
from edgefold.matches import Part
from edgefold.plans import DropLayers, Plan, Project, Select, ShareLayers
from edgefold.student_building import build_student

EVERYTHING = Objective(0, 1, 1, attention=1, relations=1, embeddings=1, cosine=1)
INNER = Objective(0, 1, 1, relations=1, cosine=1)


def terms(student: nn.Module, teacher: nn.Module, objective: Objective, inputs: dict[str, Tensor]) -> dict[str, float]:
    """Each term on one batch, without dropout."""
    distillation = Distillation(student, objective, find_pairs(student, teacher, objective, lambda: inputs))
    seen = distillation.run_student(student.eval(), inputs)
    said = distillation.run_teacher(teacher.eval(), inputs)
    return {name: float(term.detach()) for name, term in distillation.terms(seen, said, inputs).items()}


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "mistral", "vit"])
def test_a_student_at_full_size_misses_nothing(family: str) -> None:
    teacher, inputs = make(family)
    student = build_student(teacher, Plan([Project("hidden", 24)]), inputs, [inputs], graph=graph_of(family))
    found = terms(student, teacher, EVERYTHING, inputs)
    assert set(found) == {"logits", "hidden", "attention", "relations", "embeddings", "cosine"}
    assert max(found.values()) < 1e-12


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "t5"])
def test_a_copy_made_elsewhere_misses_nothing_either(family: str) -> None:
    teacher, inputs = make(family)
    objective = EVERYTHING if family != "t5" else Objective(0, 1, 1, embeddings=1, cosine=1, relations=1)
    assert max(terms(copy.deepcopy(teacher), teacher, objective, inputs).values()) < 1e-12


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
def test_another_student_misses_something_in_every_term(family: str) -> None:
    teacher, inputs = make(family)
    student = copy.deepcopy(teacher)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    assert min(terms(student, teacher, EVERYTHING, inputs).values()) > 1e-4


def test_a_traced_student_is_compared_through_its_taps_and_folds_without_them() -> None:
    model, inputs = make("literals")
    student = build_student(model, Plan([Project("hidden", 24)]), inputs, [inputs], graph=graph_of("literals"))
    whole = build_student(model, Plan([Select("heads", 4)]), inputs, [inputs], graph=graph_of("literals"))
    traced = build_student(
        model, Plan([Project("hidden", 12), Select("heads", 2)]), inputs, [inputs], graph=graph_of("literals")
    )
    assert isinstance(traced.module, GraphModule)
    assert [match.teacher_module for match in traced.matches] == ["inner", "o"]
    taps = ["inner.edgefold_tap", "o.edgefold_tap"]
    assert [pair.student for pair in find_pairs(traced, model, INNER).hidden] == taps
    for other in (student, whole):
        assert terms(other, model, Objective(0, 1, 1), inputs)["hidden"] < 1e-12
    missed = terms(traced, model, Objective(0, 1, 1), inputs)["hidden"]
    assert 1e-3 < missed < 1
    plain = fold(traced)
    assert not [name for name, _ in plain.named_modules() if "tap" in name]
    assert all(node.op != "call_module" for node in plain.graph.nodes)
    assert torch.equal(plain(**inputs), traced.eval()(**inputs))


def test_what_a_tap_sees_is_what_the_folded_module_computes() -> None:
    from edgefold.distillation import captured_outputs

    model, inputs = make("literals")
    traced = build_student(
        model, Plan([Project("hidden", 12), Select("heads", 2)]), inputs, [inputs], "all", graph=graph_of("literals")
    ).eval()
    with captured_outputs(traced.module, ["inner.edgefold_tap"]) as values:
        traced(**inputs)
    composed = traced.composed()
    expected = inputs["x"] @ composed["inner.weight"].T + composed["inner.bias"]
    torch.testing.assert_close(values["inner.edgefold_tap"], expected)


def test_a_selected_dimension_is_compared_where_it_was_selected() -> None:
    model, inputs = make("perceptron")
    student = build_student(
        model, Plan([Select("linear.0", 6)]), inputs, [inputs], start="pca", graph=graph_of("perceptron")
    )
    (match,) = [match for match in student.matches if match.dimension == "linear.0"]
    values = torch.arange(12.0).expand(2, 12)
    assert torch.equal(student.mapped(values, "linear.0")[0], student.selections["linear.0"].float())
    assert terms(student, model, Objective(0, 1, 1), inputs)["hidden"] < 1
    assert match.module == "down"


def test_attention_is_held_against_the_heads_that_were_kept() -> None:
    teacher, inputs = make("bert")
    student = build_student(teacher, Plan([Select("heads", 2)]), inputs, [inputs], start="pca", graph=graph_of("bert"))
    objective = Objective(0, 0, 0, attention=1)
    pairs = find_pairs(student, teacher, objective).maps
    assert [(pair.student, pair.teacher) for pair in pairs] == [(0, 0), (1, 1)]
    assert [pair.heads for pair in pairs] == [tuple(student.selections[f"heads.{i}"].tolist()) for i in range(2)]
    distillation = Distillation(student, objective, find_pairs(student, teacher, objective))
    seen, said = distillation.run_student(student.eval(), inputs), distillation.run_teacher(teacher, inputs)
    torch.testing.assert_close(seen.attentions[0], said.attentions[0][:, list(pairs[0].heads or ())])
    assert teacher.config._attn_implementation == student.module.config._attn_implementation == "sdpa"


def test_heads_of_grouped_queries_are_counted_through() -> None:
    teacher, inputs = make("llama")  # three groups of two queries
    student = build_student(teacher, Plan([Select("heads", 2)]), inputs, [inputs], start="pca", graph=graph_of("llama"))
    groups = student.selections["heads.0"].tolist()
    assert student.attentions[0].heads == tuple(2 * group + query for group in groups for query in range(2))


def test_queries_keys_and_values_are_found_side_by_side() -> None:
    teacher, inputs = make("gpt2")
    student = build_student(teacher, Plan([Select("heads", 2)]), inputs, [inputs], graph=graph_of("gpt2"))
    parts = student.attentions[1].parts
    place = "transformer.h.1.attn.c_attn"
    assert [mine for mine, _ in parts] == [Part(place, i, i + 16) for i in (0, 16, 32)]
    assert [other for _, other in parts] == [Part(place, i, i + 24) for i in (0, 24, 48)]


def test_dropped_layers_are_compared_with_those_they_were_or_by_another_map(make_decoder: Callable[..., Any]) -> None:
    teacher = make_decoder()
    inputs = make("gpt2")[1]
    student = build_student(teacher, Plan([DropLayers(keep=(0, 1))]), inputs, [inputs])
    layers = {
        how: [(pair.student, pair.teacher) for pair in find_pairs(student, teacher, Objective(layer_map=how)).hidden]
        for how in ("auto", "uniform", "last", ((0, 2),))
    }
    name = "transformer.h.{}.ln_1".format
    assert [layers[how][0] for how in layers] == [
        (name(0), name(0)),
        (name(0), name(1)),
        (name(0), name(2)),
        (name(0), name(2)),
    ]
    assert layers["last"][-1] == ("transformer.ln_f", "transformer.ln_f")
    assert len(layers[((0, 2),)]) == len(layers["auto"]) - 2
    maps = find_pairs(student, teacher, Objective(attention=1, layer_map="last")).maps
    assert maps == (MapPair(0, 2), MapPair(1, 3))
    (part, *_) = find_pairs(student, teacher, Objective(relations=1, layer_map="last")).relations
    assert part == (Part("transformer.h.1.attn.c_attn", 0, 24), Part("transformer.h.3.attn.c_attn", 0, 24))


def test_shared_layers_are_compared_in_every_run(make_bert: Callable[..., Any]) -> None:
    teacher, inputs = make_bert(), make("bert")[1]
    student = build_student(teacher, Plan([ShareLayers()]), inputs, [inputs])
    pairs = find_pairs(student, teacher, Objective()).hidden
    assert {pair.teacher for pair in pairs} >= {f"bert.encoder.layer.{i}.output.LayerNorm" for i in range(2)}


def test_models_made_apart_are_compared_layer_by_layer(make_residual_stack: Callable[..., Any]) -> None:
    student, teacher = make_residual_stack(2), make_residual_stack(4)
    pairs = find_pairs(student, teacher, Objective(embeddings=1, contrastive=1))
    assert pairs.hidden == (Pair("layers.0", "layers.1"), Pair("layers.1", "layers.3"))
    assert pairs.embeddings == (Pair("> layers.0", "> layers.0"),)
    assert pairs.contrast == (Pair("layers.1", "layers.3"),)


def test_the_last_hidden_state_is_contrasted_unless_another_is_named() -> None:
    teacher, inputs = make("bert")
    student = build_student(teacher, Plan([Project("hidden", 16)]), inputs, [inputs], graph=graph_of("bert"))
    last = "bert.encoder.layer.1.output.LayerNorm"
    assert find_pairs(student, teacher, Objective(contrastive=1)).contrast == (Pair(last, last, "hidden"),)
    named = Objective(contrastive=1, contrast=Contrast(at="bert.pooler"))
    assert find_pairs(student, teacher, named).contrast == (Pair("bert.pooler", "bert.pooler"),)


@pytest.mark.parametrize("name", ["hidden", "cosine", "embeddings", "contrastive", "attention", "relations"])
def test_what_these_models_do_not_have_is_said(name: str) -> None:
    objective = Objective(**{"logits": 1.0, "hidden": 0.0, name: 1.0})
    with pytest.raises(InputError, match=rf"Objective\({name} > 0\) needs .*; set {name}=0 for this student"):
        find_pairs(nn.Linear(2, 2), nn.Linear(2, 2), objective)


def test_a_module_that_is_not_there_is_named() -> None:
    teacher, inputs = make("bert")
    objective = Objective(0, 0, 0, contrastive=1, contrast=Contrast(at="bert.poler"))
    with pytest.raises(InputError, match=r"has no module 'bert.poler' to compare; did you mean bert.pooler\?"):
        terms(copy.deepcopy(teacher), teacher, objective, inputs)
