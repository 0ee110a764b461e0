"""What is read from a model's configurations about how its text is generated."""

import generating_models as models

from edgefold.artifacts import Generation
from edgefold.exporters.generation_settings import read_generation


def test_a_causal_model_begins_with_its_prompt() -> None:
    assert read_generation(models.llama(), 2) == Generation(layers=2, end_ids=(2,), pad_id=0)


def test_several_ends_and_no_padding() -> None:
    model = models.llama()
    model.generation_config.eos_token_id = [7, 9]
    model.generation_config.pad_token_id = model.config.pad_token_id = None
    assert read_generation(model, 2) == Generation(layers=2, end_ids=(7, 9), pad_id=7)


def test_an_encoder_decoder_begins_as_its_configuration_says() -> None:
    model = models.t5()
    assert read_generation(model, 2) == Generation(layers=2, start_ids=(0,), end_ids=(1,), pad_id=0)
    model.generation_config.forced_bos_token_id = 9
    model.generation_config.bad_words_ids = [[4], [5, 6]]
    found = read_generation(model, 2)
    assert (found.start_ids, found.never_ids, found.last_id) == ((0, 9), (4,), None)
    model.generation_config.forced_eos_token_id = 1
    assert read_generation(model, 2).last_id == 1


def test_an_english_speech_model_begins_without_timestamps_and_suppresses_tokens() -> None:
    model = models.whisper()
    model.generation_config.no_timestamps_token_id = 8
    found = read_generation(model, 2)
    assert (found.start_ids, found.never_ids, found.never_first_ids) == ((3, 8), (5, 6), (2,))
    model.generation_config.is_multilingual = True  # the language comes between, and is the caller's to say
    assert read_generation(model, 2).start_ids == (3,)
