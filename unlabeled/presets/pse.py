"""PSE on tasks of the DeepMind Control Suite, by imitation of an expert (`unlabeled[control]`)."""

from __future__ import annotations

from functools import partial

import torch

from unlabeled.data.dm_control import DmControl
from unlabeled.encoders.runs import run_encoder
from unlabeled.evaluators.rollouts import Rollouts
from unlabeled.methods.control.pse import PSE
from unlabeled.recipe import Optim, Recipe
from unlabeled.schedule import exponential
from unlabeled.views.runs import WholeRuns


def cartpole() -> Recipe:
    """A pole to balance from pixels, in two looks of the task: minutes on one CPU core."""
    return Recipe(
        method=partial(PSE, gamma=0.9, temperature=0.5, test_convs=0),
        encoder=partial(run_encoder, widths=(16, 32, 32), kernels=(4, 4, 3), strides=(2, 2, 1)),
        data=DmControl(),
        views=WholeRuns(probability=0.0),
        optim=Optim(kind=torch.optim.Adam, lr=exponential(3e-3, 3e-4), lr_per=None),
        epochs=50,
        batch_size=24,
        evaluate=(Rollouts(protocol="rollouts/cartpole-balance-v1"),),
    )
