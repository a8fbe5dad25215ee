"""The objective that a config asks for."""

import numpy as np
from numpy.typing import NDArray

from mentallama_jax.config import ClassificationSection, DpoSection, GrpoSection, RunConfig, SequenceSection
from mentallama_jax.imhi.learnt_classes import classes_of
from mentallama_jax.models.adapters import adapted_config, is_adapter
from mentallama_jax.models.registry import TrainedConfig, encoder, encoder_decoder, language_model
from mentallama_jax.training.data.batch_spec import paired_texts
from mentallama_jax.training.objectives.classification import Classification, class_weights
from mentallama_jax.training.objectives.objective import Objective, everything
from mentallama_jax.training.objectives.policy import Policy
from mentallama_jax.training.objectives.preference import Preference
from mentallama_jax.training.objectives.sequence_to_sequence import SequenceToSequence
from mentallama_jax.training.objectives.supervised import Supervised


def objective_of(model: TrainedConfig, config: RunConfig, class_counts: NDArray[np.int64] | None = None) -> Objective:
    """What a run minimises.

    Args:
        model: the shape, without the adapter that the config may ask for; that of a classifier has its classes.
        config: the run.
        class_counts: [classes], training rows of each class; without them, as where no data are read, classes weigh
            the same. The program differs in these numbers alone.

    Raises:
        UserError: a model of another kind than the objective tunes, or an adapter that matches nothing in it.
    """
    source, adapter = config.model.source, config.adapter
    trained = everything if adapter is None else is_adapter
    if isinstance(config.objective, ClassificationSection):
        classifier = adapted_config(encoder(model, source), adapter)
        counts = np.ones(classifier.num_labels, np.int64) if class_counts is None else class_counts
        groups = classes_of(config.data).groups
        weights = class_weights(config.objective, counts, groups)
        return Classification(classifier, config, weights, trained, groups=groups)
    if isinstance(config.objective, DpoSection):
        return Preference(adapted_config(language_model(model, source), adapter), config, trained)
    if isinstance(config.objective, GrpoSection):
        return Policy(adapted_config(language_model(model, source), adapter), config, trained)
    if isinstance(config.objective, SequenceSection):
        spec = paired_texts(config.data.max_length, config.objective.target_length)
        return SequenceToSequence(adapted_config(encoder_decoder(model, source), adapter), config, spec, trained)
    # Pieces of documents are examples in which every token but the first is a target.
    adapted = adapted_config(language_model(model, source), adapter)
    if adapter is None:
        return Supervised(adapted, config)
    return Supervised(adapted, config, trained, draws=adapter.dropout > 0)
