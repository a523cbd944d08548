from typing import Any

import mlx.core as mx
import pytest
from support.tiny.sight import Sight

from mlx_server.workers.engine.decode.probe import NoNumbersError
from mlx_server.workers.engine.vision.features import forget
from mlx_server.workers.engine.vision.trial import Tried, try_model
from mlx_server.workers.engine.vision.trial_features import try_remembering
from mlx_server.workers.engine.vision.trial_prompts import trial_sequences
from mlx_server.workers.errors import ModelLoadError

pytestmark = pytest.mark.model


class _Changed:
    """An object that does something of its own when it is called, and is another one else."""

    def __init__(self, real: Any, call: Any) -> None:
        self.__dict__["real"], self.__dict__["call"] = real, call

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.real, name, value)

    def __call__(self, *args: Any, **how: Any) -> Any:
        return self.call(self.real, *args, **how)


class _Model:
    """The model with other parts."""

    def __init__(self, model: Any, **parts: Any) -> None:
        self.__dict__["real"] = model
        self.__dict__.update(parts)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def get_input_embeddings(self, *args: Any, **how: Any) -> Any:
        return type(self.real).get_input_embeddings(self, *args, **how)


def _try(sight: Sight, model: Any) -> Tried:
    sequences, blind = trial_sequences(sight.prompts, sight.media)
    assert (len(sequences), blind) == (3, "")
    return try_model(model, sequences, rows=4, feature_bytes=1 << 30, prefix_bytes=1 << 30)


def test_a_model_without_faults_may_do_everything(sight: Sight) -> None:
    model = _Model(sight.model)
    tried = _try(sight, model)
    assert (tried.rows, tried.notes, tried.prefixes.keeps) == (4, (), True)
    assert tried.tower is not None
    assert (tried.tower.separately, tried.tower.together, len(tried.joinable.kinds)) == (True, True, 2)
    forget(model, tried.tower)


def test_a_model_that_computes_no_numbers_is_refused(sight: Sight) -> None:
    def broken(real: Any, inputs: mx.array, **how: Any) -> Any:
        output = real(inputs, **how)
        output.logits = output.logits * mx.nan
        return output

    with pytest.raises(NoNumbersError):
        _try(sight, _Model(sight.model, language_model=_Changed(sight.model.language_model, broken)))


def test_a_model_that_is_wrong_in_a_batch_runs_one_at_a_time(sight: Sight) -> None:
    def mixed(real: Any, inputs: mx.array, **how: Any) -> Any:
        output = real(inputs, **how)
        output.logits = output.logits if len(inputs) == 1 else output.logits[::-1]
        return output

    tried = _try(sight, _Model(sight.model, language_model=_Changed(sight.model.language_model, mixed)))
    assert tried.rows == 1
    assert "one request at a time: its log-probabilities" in tried.notes[0]


def test_a_model_that_breaks_in_a_batch_runs_one_at_a_time(sight: Sight) -> None:
    def refusing(real: Any, inputs: mx.array, **how: Any) -> Any:
        if len(inputs) > 1:
            raise ValueError("no batches")
        return real(inputs, **how)

    tried = _try(sight, _Model(sight.model, language_model=_Changed(sight.model.language_model, refusing)))
    assert tried.rows == 1
    assert "no batches" in tried.notes[0]


def test_a_model_that_says_something_else_each_time_cannot_be_served(sight: Sight) -> None:
    noise = iter(range(1000))

    def unsteady(real: Any, inputs: mx.array, **how: Any) -> Any:
        output = real(inputs, **how)
        output.logits = mx.roll(output.logits, next(noise), axis=-1)
        return output

    with pytest.raises(ModelLoadError, match="can't be served"):
        _try(sight, _Model(sight.model, language_model=_Changed(sight.model.language_model, unsteady)))


def test_prompts_are_not_continued_where_that_changes_something(sight: Sight) -> None:
    def unlike(real: Any, *args: Any, **how: Any) -> Any:
        positions, deltas = real.get_rope_index(*args, **how)
        return positions + 3 * (args[0].shape[1] > 40), deltas

    class _Language(_Changed):
        """Positions of whole prompts are wrong, but only those that are asked for beside the embeddings."""

        def get_rope_index(self, *args: Any, **how: Any) -> Any:
            return unlike(self.real, *args, **how)

    language = _Language(sight.model.language_model, lambda real, *args, **how: real(*args, **how))
    model = _Model(sight.model, language_model=language)
    model.__dict__["get_input_embeddings"] = sight.model.get_input_embeddings
    tried = _try(sight, model)
    assert not tried.prefixes.keeps
    assert "not continued: its log-probabilities" in tried.notes[-1]


def test_pictures_are_remembered_together_where_one_by_one_they_would_differ(sight: Sight) -> None:
    def counting(real: Any, pixels: mx.array, grid: mx.array) -> Any:
        features, layers = real(pixels, grid)
        return features * len(grid), layers

    model = _Model(sight.model, vision_tower=_Changed(sight.model.vision_tower, counting))
    tried = _try(sight, model)
    assert tried.tower is not None
    assert not tried.tower.separately
    assert tried.notes[0] == "features of pictures are kept for those that come together"
    assert "not continued" in tried.notes[1], "what a picture becomes depends on those beside it"


def test_pictures_are_not_remembered_where_the_encoder_is_unsteady(sight: Sight) -> None:
    noise = iter(range(1, 1000))

    def unsteady(real: Any, pixels: mx.array, grid: mx.array) -> Any:
        features, layers = real(pixels, grid)
        return features * next(noise), layers

    model = _Model(sight.model, vision_tower=_Changed(sight.model.vision_tower, unsteady))
    sequences, _ = trial_sequences(sight.prompts, sight.media)
    tower, notes = try_remembering(model, sequences[-1], 1 << 30)
    assert (tower, notes) == (None, ["features of pictures are not kept: they would differ"])
    assert isinstance(model.vision_tower, _Changed), "the encoder has its place back"
