"""Encoders in chunks give the loss and gradient of the whole batch; compiled ones still train."""

import weakref
from copy import deepcopy
from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from lightning import Callback
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from tests.tiny import BATCH, stems, tiny
from tests.toys import toy_recipe
from tests.world import double
from unlabeled.artifacts import Run
from unlabeled.encoders.encoder import Encoder
from unlabeled.encoders.image import small_resnet
from unlabeled.execution import cache_gradients, compile_encoders
from unlabeled.method import Clock
from unlabeled.nn.norms import global_batchnorm, split_batchnorm
from unlabeled.plan import make_plan
from unlabeled.pretraining import pretrain
from unlabeled.report.provenance import provenance
from unlabeled.views.generator import SampleGenerator

QUIET = {"logger": False, "accelerator": "cpu"}
CHUNK = 5  # divides no batch here: chunks of 4 and 5


def without_batchnorm(spec, *, build):
    """The recipe's encoder with group norms, which see one sample each."""
    encoder = build(spec)
    for module in list(encoder.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.modules.batchnorm._BatchNorm):
                setattr(module, name, nn.GroupNorm(2, child.num_features))
    return encoder


def measure(stem, *, chunk=None, steps=1, recipe=None):
    """Loss, gradient and state of a method, after ``steps`` steps of SGD in float64."""
    recipe = recipe or tiny(stem)
    recipe = replace(recipe, encoder=partial(without_batchnorm, build=recipe.encoder))
    torch.manual_seed(0)
    method = recipe.build().double()
    if chunk is not None:
        cache_gradients(method, chunk=chunk)
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.01)
    loss = torch.zeros(())
    for step in range(steps):
        method.clock = Clock(50 + step, 100, 10)
        torch.manual_seed(step)
        method.before_step(partial(sweep, recipe))
        raw = recipe.data.split("train").__getitems__(list(range(step * BATCH, (step + 1) * BATCH)))
        batch = recipe.views(raw, SampleGenerator(0, 0, raw["index"]))
        batch = double(batch)
        optimizer.zero_grad()
        terms = [value for turn in method.turns().values() for value in turn.loss(batch).values()]
        loss = torch.stack(terms).sum()
        loss.backward()
        if step + 1 < steps:
            optimizer.step()
            method.after_step()
    gradient = {name: p.grad for name, p in method.named_parameters() if p.grad is not None}
    return loss, gradient, method.state_dict()


def sweep(recipe, function):
    raw = recipe.data.split("train").__getitems__(list(range(64)))
    with torch.no_grad():
        return function(double(recipe.data.prepare(recipe.views.spec)(raw)))


@pytest.mark.parametrize("stem", stems())
def test_chunks_give_every_method_the_gradient_of_the_whole_batch(stem):
    loss, gradient, state = measure(stem, steps=2)
    chunked_loss, chunked_gradient, chunked_state = measure(stem, chunk=CHUNK, steps=2)
    torch.testing.assert_close(chunked_loss, loss, rtol=1e-6, atol=1e-9)
    assert set(chunked_gradient) == set(gradient)
    for name, value in gradient.items():
        torch.testing.assert_close(chunked_gradient[name], value, rtol=1e-6, atol=1e-8, msg=name)
    assert list(chunked_state) == list(state)
    for name, value in state.items():
        torch.testing.assert_close(chunked_state[name], value, rtol=1e-6, atol=1e-8, msg=name)


def small(**changes):
    spec = tiny("simclr").views.spec
    torch.manual_seed(0)
    return small_resnet(spec, widths=(8, 8, 16), **changes).double(), spec


def images(spec, count=12):
    torch.manual_seed(1)
    return torch.randn(count, spec.channels, spec.size, spec.size, dtype=torch.float64)


@pytest.mark.parametrize("call", ["__call__", "local", "maps"])
def test_a_batch_norm_sees_a_chunk_and_moves_once(call):
    encoder, spec = small()
    chunked, splits = deepcopy(encoder), split_batchnorm(deepcopy(encoder), splits=3)
    cache_gradients(chunked, chunk=4)
    x = images(spec)
    outputs = []
    for network in (chunked, splits):
        y = getattr(network, call)(x)
        y.square().mean().backward()
        outputs.append(y)
    torch.testing.assert_close(*outputs)
    for one, other in zip(chunked.parameters(), splits.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)
    # the running statistics are those of three forward passes, not of six
    with torch.no_grad():
        for part in x.split(4):
            encoder(part)
    for (name, value), other in zip(encoder.named_buffers(), chunked.buffers(), strict=True):
        torch.testing.assert_close(other, value, msg=name)


def test_split_batch_norms_share_their_splits_among_chunks():
    """A chunk of one split is the very computation of the whole batch (MoCo's shuffling BN)."""
    encoder, spec = small()
    whole = split_batchnorm(encoder, splits=4)
    chunked = deepcopy(whole)
    cache_gradients(chunked, chunk=3)
    x = images(spec)
    torch.testing.assert_close(chunked(x), whole(x))
    assert {part.splits for part in chunked.modules() if hasattr(part, "splits")} == {4}
    recipe = tiny("moco")
    splits = recipe.method.keywords["batchnorm_splits"]
    results = []
    for chunk in (None, BATCH // splits):
        torch.manual_seed(0)
        method = recipe.build().double()
        if chunk:
            cache_gradients(method, chunk=chunk)
        method.before_step(partial(sweep, recipe))
        raw = recipe.data.split("train").__getitems__(list(range(BATCH)))
        views = recipe.views(raw, SampleGenerator(0, 0, raw["index"]))["views"]
        loss = method.loss({"views": [view.double() for view in views], "index": raw["index"]})
        loss["info_nce"].backward()
        results.append([loss["info_nce"], *(p.grad for p in method.encoder.parameters())])
    torch.testing.assert_close(*results)


def test_a_copy_of_a_chunked_encoder_runs_with_its_own_weights():
    encoder, spec = small()
    cache_gradients(encoder, chunk=4)
    copy = deepcopy(encoder)
    with torch.no_grad():
        for value in copy.parameters():
            value.zero_()
    assert copy.eval()(images(spec)).abs().sum() == 0


class Memory(TorchDispatchMode):
    """The most bytes that tensors made inside it hold at a time, beside those of ``given``."""

    def __init__(self, given):
        super().__init__()
        self.now = self.most = 0
        self.seen = WeakIdKeyDictionary({given.untyped_storage(): True})

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            storage = tensor.untyped_storage() if isinstance(tensor, Tensor) else None
            if storage is not None and storage not in self.seen:
                self.seen[storage] = True
                self.now += storage.nbytes()
                self.most = max(self.most, self.now)
                weakref.finalize(storage, self.freed, storage.nbytes())
        return out

    def freed(self, size):
        self.now -= size


def test_memory_holds_the_activations_of_one_chunk():
    encoder, spec = small()
    x, most = images(spec, 64), []
    for chunk in (None, 8):
        if chunk is not None:
            cache_gradients(encoder, chunk=chunk)
        with Memory(x) as memory:
            encoder(x).square().mean().backward()
        most.append(memory.most)
        encoder.zero_grad()
    with Memory(x) as memory:
        whole = encoder(x)
        held = memory.now
    assert len(whole) == 64
    # between the passes: the outputs and each chunk's random state
    assert held < 0.1 * most[0]
    assert most[1] < 0.25 * most[0]


def test_dropout_draws_the_same_in_the_second_pass():
    class Noisy(Encoder):
        dim = 16

        def __init__(self):
            super().__init__()
            self.drop, self.layer = nn.Dropout(0.5), nn.Linear(16, 16)

        def local(self, x):
            return self.layer(self.drop(x))[:, None]

        def pool(self, local):
            return local.mean(1)

    encoder = Noisy()
    cache_gradients(encoder, chunk=4)
    x = torch.randn(12, 16, requires_grad=True)
    y = encoder(x)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    used = gradient != 0
    weight = encoder.layer.weight
    kept = torch.where(used, 2 * x, 0.0)  # the inputs that the second pass dropped ...
    torch.testing.assert_close(y, kept @ weight.T + encoder.layer.bias)  # ... are the first's
    assert 0.2 < used.float().mean() < 0.8


def test_what_cannot_be_cut_and_chunks_that_make_no_sense():
    encoder, _ = small()
    with pytest.raises(ValueError, match="grad_cache is 0"):
        cache_gradients(encoder, chunk=0)
    cache_gradients(encoder, chunk=2)
    with pytest.raises(ValueError, match="cannot cut a list"):
        encoder([1, 2, 3])
    with pytest.raises(ValueError, match="grad_cache is 0"):
        make_plan(toy_recipe(), grad_cache=0)
    with pytest.raises(ValueError, match="grad_cache 16 does nothing: the encoder sees 16 samples"):
        make_plan(toy_recipe(), grad_cache=16)
    with pytest.raises(ValueError, match="sees 4 samples at once"):
        make_plan(toy_recipe(accumulate=2), grad_cache=4, devices=2)
    assert make_plan(toy_recipe(), grad_cache=15).overrides["grad_cache"] == "15"


# The run -----------------------------------------------------------------------------------------


class Stop(Callback):
    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if batch_idx == 3:
            raise RuntimeError("pulled the plug")


def test_a_chunked_run_resumes_bit_for_bit_and_says_how_it_ran(tmp_path, caplog):
    recipe = replace(tiny("byol"), steps=5)
    options = {**QUIET, "grad_cache": 6}
    with caplog.at_level("INFO", "unlabeled"):
        straight = pretrain(recipe, out=tmp_path / "straight", **options)
    assert "encoder in chunks of 6" in caplog.text
    stopped = {**options, "checkpoint_seconds": 0.0, "callbacks": [Stop()]}
    with pytest.raises(RuntimeError, match="plug"):
        pretrain(recipe, out=tmp_path / "run", **stopped)
    resumed = pretrain(recipe, out=tmp_path / "run", **options)
    one, other = (run.model().encoder.state_dict() for run in (straight, resumed))
    assert all(torch.equal(one[name], other[name]) for name in one)
    plain = pretrain(recipe, out=tmp_path / "plain", **QUIET)
    assert plain.info["fingerprint"] == straight.info["fingerprint"]
    assert list(plain.model().encoder.state_dict()) == list(one)
    made = provenance(Run(tmp_path / "run"))
    assert made.overrides == ("grad_cache = 6",)
    assert ("execution", "grad_cache 6") in made.environment
    assert "execution" not in dict(provenance(plain).environment)


def ddp_gradient(rank: int, ranks: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=ranks
    )
    recipe = tiny("simclr")
    recipe = replace(recipe, encoder=partial(without_batchnorm, build=recipe.encoder))
    torch.manual_seed(0)
    method = global_batchnorm(recipe.build()).double()
    cache_gradients(method, chunk=3)
    wrapped = DistributedDataParallel(Lossy(method), broadcast_buffers=False)
    own = BATCH // ranks
    raw = recipe.data.split("train").__getitems__(list(range(BATCH)))
    views = recipe.views(raw, SampleGenerator(0, 0, raw["index"]))["views"]
    wrapped([view.double()[rank * own : (rank + 1) * own] for view in views]).backward()
    found = {name: p.grad for name, p in method.named_parameters()}
    # a batch norm over ranks inside the chunks: each chunk meets its like on the other ranks
    encoder, spec = small()
    cache_gradients(global_batchnorm(encoder), chunk=3)
    mine = images(spec).unflatten(0, (2, ranks, 3))[:, rank].flatten(0, 1)
    encoder(mine).square().mean().backward()
    for name, p in encoder.named_parameters():
        dist.all_reduce(p.grad)
        found[f"global.{name}"] = p.grad / ranks
    found |= {f"global.{name}": value for name, value in encoder.named_buffers()}
    if rank == 0:
        torch.save(found, f"{folder}/out.pt")
    dist.destroy_process_group()


class Lossy(nn.Module):
    def __init__(self, method: nn.Module) -> None:
        super().__init__()
        self.method = method

    def forward(self, views: list[Tensor]) -> Tensor:
        return self.method.loss({"views": views})["nt_xent"]


def test_two_ranks_with_ddp_and_chunks_equal_one_whole_batch(tmp_path):
    mp.spawn(ddp_gradient, args=(2, str(tmp_path)), nprocs=2)
    _, gradient, _ = measure("simclr")
    encoder, spec = small()
    cache_gradients(encoder, chunk=6)
    encoder(images(spec)).square().mean().backward()
    gradient |= {f"global.{name}": p.grad for name, p in encoder.named_parameters()}
    gradient |= {f"global.{name}": value for name, value in encoder.named_buffers()}
    found = torch.load(tmp_path / "out.pt")
    assert set(found) == set(gradient)
    for name, value in gradient.items():
        torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-9, msg=name)


# torch.compile -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_compiled_encoder_is_the_same_function_or_the_error_is_clear():
    encoder = small_resnet(tiny("simclr").views.spec, widths=(8,), blocks=(1,))
    plain, x = deepcopy(encoder), torch.randn(4, 1, 16, 16)
    try:
        compile_encoders(encoder)
    except ValueError as error:
        assert "torch.compile does not work here" in str(error)  # noqa: PT017
        return
    y, expected = encoder(x), plain(x)
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)
    y.square().mean().backward()
    expected.square().mean().backward()
    for one, other in zip(encoder.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-5)
    assert list(encoder.state_dict()) == list(plain.state_dict())


def test_a_run_compiles_the_encoder_in_training_mode_only(tmp_path, monkeypatch):
    called = []

    def fake(function):
        def fast(x):
            called.append((getattr(function, "__name__", ""), len(x)))
            return function(x)

        return fast

    monkeypatch.setattr(torch, "compile", fake)
    recipe = replace(tiny("simclr"), steps=2)
    run = pretrain(recipe, out=tmp_path / "run", compile=True, grad_cache=8, **QUIET)
    assert {(name, size) for name, size in called if name == "forward"} == {("forward", 8)}
    assert run.info["overrides"]["compile"] == "True"
    called.clear()
    method = recipe.build()
    compile_encoders(method.eval())
    called.clear()  # the trial
    raw = recipe.data.split("train").__getitems__([0, 1])
    method.encoder(recipe.data.prepare(recipe.views.spec)(raw))
    assert called == []


def test_without_a_compiler_the_error_names_the_remedy(tmp_path, monkeypatch):
    def broken(function):
        raise RuntimeError("No working C++ compiler found")

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(
        ValueError, match=r"--compile: .*No working C\+\+.*install a C\+\+ compiler"
    ):
        pretrain(toy_recipe(), out=tmp_path / "run", compile=True, **QUIET)


def test_the_report_repeats_the_command_with_its_flags(tmp_path):
    from unlabeled.report.provenance import command

    overrides = {"epochs": "2", "grad_cache": "64", "compile": "True", "method.dim": "8"}
    assert command("simclr:small", overrides) == (
        "unlabeled pretrain simclr:small --epochs 2 --grad-cache 64 --compile method.dim=8"
    )
