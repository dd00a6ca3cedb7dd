"""The item tower's parts: what the text says, what the id has learnt, and both."""

import numpy as np
import torch
from torch.nn import functional as nnf

from tests.unit.kernel_world import make_model


@torch.inference_mode()
def test_an_items_vector_is_its_text_moved_by_what_its_id_has_learnt():
    model = make_model()  # items 0 to 9 are too rare for a vector of their own
    texts, items = torch.randn(30, 16), torch.arange(30)
    text, behaviour = model.text_vectors(texts), model.behaviour_vectors(items)
    torch.testing.assert_close(text.norm(dim=1), torch.ones(30))
    assert not behaviour[:10].any()
    torch.testing.assert_close(behaviour[10:].norm(dim=1), torch.ones(20))
    of_id = model.id_embedding.weight[model.id_row_N.long()]
    torch.testing.assert_close(behaviour[10:], nnf.normalize(of_id[10:], dim=1))
    torch.testing.assert_close(model.item_vectors(texts, items), nnf.normalize(text + of_id, dim=1))


@torch.inference_mode()
def test_an_item_the_model_never_saw_has_no_behaviour():
    assert not model_vectors(np.array([30, 10_000])).any()


def model_vectors(items):
    return make_model().behaviour_vectors(torch.from_numpy(items))
