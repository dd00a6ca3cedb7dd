from __future__ import annotations

import torch

from recsys_spark.kernels.user_tower import UserTower, hour_buckets


def make_tower(layers: int = 2) -> UserTower:
    torch.manual_seed(0)
    return UserTower(16, max_events=10, layers=layers, heads=4, dropout=0.0).eval()


def inputs(num_users: int = 5, width: int = 10):
    generator = torch.Generator().manual_seed(1)
    items = torch.nn.functional.normalize(torch.randn(num_users, width, 16, generator=generator), dim=2)
    types = torch.randint(0, 5, (num_users, width), generator=generator)
    hours = torch.randint(0, 5000, (num_users, width), generator=generator)
    return items, types, hours, torch.tensor([1, 3, 10, 7, 2])


def test_vectors_have_unit_length():
    norms = make_tower()(*inputs()).norm(dim=1)
    assert torch.allclose(norms, torch.ones(5), atol=1e-6)


def test_what_stands_behind_the_last_event_changes_nothing():
    items, types, hours, num_events = inputs()
    before = make_tower()(items, types, hours, num_events)
    for row, count in enumerate(num_events.tolist()):
        items[row, count:] = 99.0
        types[row, count:] = 1
        hours[row, count:] = 12345
    assert torch.allclose(make_tower()(items, types, hours, num_events), before, atol=1e-6)


def test_cutting_the_padding_off_changes_nothing():
    items, types, hours, _ = inputs()
    num_events = torch.tensor([1, 3, 4, 2, 4])
    tower = make_tower()
    cut = tower(items[:, :4], types[:, :4], hours[:, :4], num_events)
    assert torch.allclose(tower(items, types, hours, num_events), cut, atol=1e-6)


def test_the_order_of_events_matters():
    items, types, hours, num_events = inputs()
    swapped = items.clone()
    swapped[2, [0, 8]] = items[2, [8, 0]]
    tower = make_tower()
    torch.nn.init.eye_(tower.out.weight)  # at its first values the transformer is silent
    assert not torch.allclose(tower(items, types, hours, num_events)[2], tower(swapped, types, hours, num_events)[2])


def test_the_last_state_alone_equals_the_last_of_all_states():
    items, _, _, num_events = inputs()
    layer = make_tower().last_layer
    is_event = torch.arange(10) < num_events[:, None]
    alone = layer.last_state(items, num_events - 1, is_event_BL=is_event)
    assert torch.allclose(alone, layer(items)[torch.arange(5), num_events - 1], atol=1e-6)


def test_hour_buckets_double():
    assert hour_buckets(torch.tensor([0, 1, 2, 3, 6, 7, 24, 2**30])).tolist() == [0, 1, 1, 2, 2, 3, 4, 19]
