import math
from functools import partial

import pytest
import torch

from unlabeled.data.dm_control import FORCES
from unlabeled.data.jumping import JUMP, RIGHT, Jumping, JumpSpec, World
from unlabeled.encoders.runs import run_encoder
from unlabeled.evaluators.rollouts import Rollouts, acted
from unlabeled.losses.policy_similarity import coupled_contrast, policy_similarity
from unlabeled.methods.control.pse import PSE, balanced_cross_entropy, small
from unlabeled.ops.random_conv import random_conv
from unlabeled.registry import find_recipe

DATA = small().data


def costs(one, other):
    return (torch.tensor(one)[:, None] != torch.tensor(other)[None]).double()


def test_the_metric_of_the_notes_example():
    d = policy_similarity(costs([0, 1, 0], [0, 0, 1, 0]), gamma=0.9)
    expected = [[1.71, 0, 1.9, 0.9], [1.81, 1.9, 0, 1], [0.81, 0.9, 1, 0]]
    torch.testing.assert_close(d, torch.tensor(expected).double())


def test_the_metric_by_a_slow_fixed_point():
    torch.manual_seed(0)
    cost = torch.rand(5, 7).double()
    d = torch.zeros_like(cost)
    for _ in range(400):
        for i in range(5):
            for j in range(7):
                d[i, j] = cost[i, j] + 0.8 * d[min(i + 1, 4), min(j + 1, 6)]
    torch.testing.assert_close(policy_similarity(cost, gamma=0.8), d)
    assert d.max() <= 1 / (1 - 0.8)
    torch.testing.assert_close(policy_similarity(cost.T, gamma=0.8), d.T)


def test_padding_by_the_last_state_changes_nothing():
    short = policy_similarity(costs([0, 1, 0], [1, 0]), gamma=0.9)
    long = policy_similarity(costs([0, 1, 0, 0, 0], [1, 0, 0]), gamma=0.9)
    torch.testing.assert_close(long[:3, :2], short)
    with pytest.raises(ValueError, match="gamma is 1"):
        policy_similarity(costs([0], [0]), gamma=1.0)


def contrast(x, y, metric, **options):
    n, m = metric.shape[-2:]
    valid = {"valid_x": torch.ones(1, n).bool(), "valid_y": torch.ones(1, m).bool()}
    defaults = {"temperature": 1.0, "scale": 1.0, **valid}
    return coupled_contrast(x, y, metric, **{**defaults, **options})


def test_equal_similarities_far_apart_are_the_logs_of_the_counts():
    x, y = torch.ones(1, 4, 3).double(), torch.ones(1, 6, 3).double()
    metric = torch.full((1, 4, 6), 1e3).double()
    metric[:, torch.arange(4), torch.arange(4)] = 0.0
    # columns 4 and 5 have no near row: their nearest weighs exp(-1000), so only rows are exact
    valid_y = torch.tensor([[True] * 4 + [False] * 2])
    loss = contrast(x, y, metric, valid_y=valid_y)
    assert loss.item() == pytest.approx(2 * math.log(4), abs=1e-6)


def test_zero_at_the_positives_and_infinite_elsewhere_is_info_nce():
    torch.manual_seed(0)
    x, y = torch.randn(2, 5, 4).double(), torch.randn(2, 5, 4).double()
    metric = torch.full((2, 5, 5), torch.inf).double()
    metric[:, torch.arange(5), torch.arange(5)] = 0.0
    loss = coupled_contrast(
        x, y, metric, temperature=0.5, scale=1.0,
        valid_x=torch.ones(2, 5).bool(), valid_y=torch.ones(2, 5).bool(),
    )  # fmt: skip
    unit = torch.nn.functional.normalize
    logits = unit(x, dim=2) @ unit(y, dim=2).mT / 0.5
    target = torch.arange(5).expand(2, 5)
    both = [torch.nn.functional.cross_entropy(s.mT, target) for s in (logits, logits.mT)]
    torch.testing.assert_close(loss, sum(both))


def test_padding_is_neither_anchor_nor_negative():
    torch.manual_seed(0)
    x, y = torch.randn(1, 4, 3), torch.randn(1, 5, 3)
    metric = torch.rand(1, 4, 5)
    whole = contrast(x, y, metric)
    longer = torch.cat([x, torch.randn(1, 2, 3)], 1), torch.cat([y, torch.randn(1, 3, 3)], 1)
    padded = torch.zeros(1, 6, 8)
    padded[:, :4, :5] = metric
    valid = {"valid_x": torch.arange(6)[None] < 4, "valid_y": torch.arange(8)[None] < 5}
    torch.testing.assert_close(contrast(*longer, padded, **valid), whole)


def test_exactly_one_moment_of_jumping_solves_each_task():
    position, _ = DATA.tasks("test")
    moment = DATA.world.moment(position)

    def at(late):
        step = iter(range(1000))

        def act(frames):
            return torch.where(next(step) == moment + late, JUMP, RIGHT)

        return acted(act, DATA, "test")["solved"]

    assert at(0).all()
    assert not at(1).any()
    assert not at(-1).any()


def test_training_and_test_tasks_share_none_and_runs_are_optimal():
    train, test = (
        set(zip(*(values.tolist() for values in DATA.tasks(split)), strict=True))
        for split in ("train", "test")
    )
    assert len(DATA.tasks("train")[0]) == 9
    assert len(DATA.tasks("test")[0]) == 63
    assert not train & test
    runs = DATA.split("train")
    assert runs.actions.sum(1).tolist() == [1] * 9
    last = runs.frames[0, runs.length[0] :, 1]  # the frame of now
    assert all(torch.equal(frame, last[0]) for frame in last[1:]), "padding repeats a frame"


def test_worlds_with_no_or_several_moments_are_refused():
    with pytest.raises(ValueError, match="high enough for 11 steps and shares columns for 10"):
        JumpSpec(agent=(4, 8))
    with pytest.raises(ValueError, match="too near"):
        Jumping(positions=(5, 6), train_positions=(5,)).split("train")


def test_a_jump_goes_up_and_down_and_no_action_counts_in_the_air():
    spec = DATA.world
    world = World.start(torch.tensor([30]), torch.tensor([3]))
    heights = []
    for _ in range(2 * spec.reach + 1):
        heights.append(int(world.height(spec)))
        world = world.step(torch.tensor([JUMP if len(heights) in (1, 5) else RIGHT]), spec)
    assert heights == [*range(spec.reach + 1), *range(spec.reach - 1, -1, -1)]


def made(**options):
    torch.manual_seed(0)
    build = partial(run_encoder, widths=(4,), kernels=(4,), strides=(4,), dim=8)
    return PSE(build(DATA.spec()), **options)


def test_the_policy_gets_no_gradient_from_the_contrast_nor_the_projection_from_imitation():
    method, raw = made(), DATA.split("train").__getitems__([0, 3, 5, 8])
    terms = method.loss(raw)
    terms["contrast"].backward(retain_graph=True)
    assert method.policy.weight.grad is None
    method.zero_grad(set_to_none=True)
    terms["imitation"].backward()
    assert all(value.grad is None for value in method.projector.parameters())
    assert method.encoder.out.weight.grad.abs().sum() > 0


def test_imitation_alone_has_no_projection():
    method = made(weight=0.0)
    assert method.projector is None
    assert set(method.loss(DATA.split("train").__getitems__([0, 1]))) == {"imitation"}


def test_both_actions_weigh_alike():
    logits = torch.tensor([[2.0, 0.0]]).expand(10, 2)
    action = torch.tensor([0] * 9 + [1])
    each = torch.nn.functional.cross_entropy(logits, action, reduction="none")
    expected = (each[0] + each[9]) / 2
    torch.testing.assert_close(balanced_cross_entropy(logits, action), expected)


def test_a_random_convolution_is_each_samples_own():
    frames = torch.rand(2, 3, 2, 6, 6)
    weight = torch.zeros(2, 2, 2, 2, 2)
    weight[0, 0, 0, 0, 0] = weight[0, 1, 1, 0, 0] = 1.0  # the first sample as it is
    out = random_conv(frames, weight)
    torch.testing.assert_close(out[0], frames[0])
    assert out[1].abs().sum() == 0
    assert out.shape == frames.shape


def test_copying_the_nearest_frame_solves_the_training_tasks_and_few_others():
    plain = {m.metric: m.value for m in Rollouts().plain(DATA)}
    assert plain["solved_train"] == 100.0
    assert plain["solved"] < 30
    film = Rollouts().figures(made().act, DATA)[0].frames
    assert film.shape[1:] == (1, 3 * 3 * 38, 3 * 3 * 38)


def test_the_cartpole_recipe_has_an_action_a_force_and_an_episode_is_beside_its_copy():
    recipe = find_recipe("pse:cartpole")
    with torch.device("meta"):
        method = recipe.build()
    assert method.policy.out_features == len(FORCES)
    assert method.encoder.spec.channels == 6
    order = recipe.data.epoch_order(seed=0, epoch=0)
    assert recipe.batch_size % 2 == 0, "no pair is parted"
    assert torch.equal(order[1::2], order[::2] + recipe.data.starts)
