"""MoCo v2: its loss, its key encoder and its memory bank against the authors' order of events, written out."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from stages import architectures
from stages.artifacts.weights import InputContract
from stages.errors import UserError
from stages.pretraining.moco_v2 import MoCoV2, Options, info_nce
from stages.training.batches import Batch
from stages.training.optimizers import optimizer_of
from tests.training_fixtures import ARCHITECTURE, SIZE, batch_seeded

BATCH = 5
OPTIONS = Options(learning_rate=0.1, queue_length=12, momentum=0.9, projection_dimension=8)


def objective(options: Options = OPTIONS) -> MoCoV2:
    torch.manual_seed(0)
    encoder = architectures.build(ARCHITECTURE, InputContract(SIZE))
    return MoCoV2(encoder, options, 10).train()


def naive_info_nce(query: Tensor, key: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """Equation 1 of the MoCo paper, an image at a time in float64."""
    total = torch.zeros((), dtype=torch.float64)
    for own, positive in zip(F.normalize(query.double()), F.normalize(key.double()), strict=True):
        similarities = [torch.dot(own, other) / temperature for other in (positive, *negatives.double())]
        total = total - similarities[0] + torch.logsumexp(torch.stack(similarities), dim=0)
    return total / len(query)


@settings(deadline=None, max_examples=30)
@given(
    batch=st.integers(1, 6), negatives=st.integers(1, 20), temperature=st.floats(0.05, 1), seed=st.integers(0, 2**31)
)
def test_the_loss_and_its_gradient_are_the_papers(batch: int, negatives: int, temperature: float, seed: int) -> None:
    torch.manual_seed(seed)
    query, key, bank = torch.randn(batch, 7, requires_grad=True), torch.randn(batch, 7), torch.randn(negatives, 7)
    bank, unit = F.normalize(bank), F.normalize(query)
    found = info_nce((unit * F.normalize(key)).sum(dim=1), unit @ bank.T, temperature)
    expected = naive_info_nce(query, key, bank, temperature)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)
    (gradient,) = torch.autograd.grad(found, query)
    (reference,) = torch.autograd.grad(expected, query)
    torch.testing.assert_close(gradient, reference, rtol=1e-3, atol=1e-5)


class Authors:
    """The forward pass of the authors' builder: keys by weights averaged just before, the bank written after."""

    def __init__(self, start: MoCoV2) -> None:
        self.query = copy.deepcopy(nn.Sequential(start.encoder, start.head))
        self.key = copy.deepcopy(nn.Sequential(start.key_encoder, start.key_head))
        self.bank: list[Tensor] = list(start.queue.embeddings.clone())
        self.optimizer = optimizer_of(self.query, OPTIONS)

    def step(self, batch: Batch) -> Tensor:
        query = F.normalize(self.query(batch.views[0]))
        with torch.no_grad():
            for key, own in zip(self.key.parameters(), self.query.parameters(), strict=True):
                key.copy_(0.9 * key.double() + 0.1 * own.double())
            keys = F.normalize(self.key(batch.views[1]))
        loss = naive_info_nce(query, keys, torch.stack(self.bank), OPTIONS.temperature)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.written = getattr(self, "written", 0)
        for key in keys:
            self.bank[self.written % OPTIONS.queue_length] = key
            self.written += 1
        return loss


def test_steps_are_those_of_the_authors_code_with_batches_that_wrap_around_the_bank() -> None:
    found = objective()
    authors = Authors(found)
    optimizer = optimizer_of(found, OPTIONS)
    for number in range(4):
        loss = found(batch_seeded(number, BATCH))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.after_step(0.1)
        torch.testing.assert_close(loss.double(), authors.step(batch_seeded(number, BATCH)), rtol=2e-3, atol=1e-4)
        torch.testing.assert_close(found.queue.embeddings, torch.stack(authors.bank), rtol=1e-2, atol=2e-3)
    for name, value in authors.query[0].state_dict().items():
        torch.testing.assert_close(found.encoder.state_dict()[name], value, rtol=1e-2, atol=2e-3)


def test_the_key_encoder_starts_as_the_encoder_is_not_trained_and_has_its_own_statistics() -> None:
    found = objective()
    for key, own in zip(found.key_encoder.parameters(), found.encoder.parameters(), strict=True):
        assert torch.equal(key, own)
        assert not key.requires_grad
    found(batch_seeded(0, BATCH)).backward()
    assert all(parameter.grad is None for parameter in (*found.key_encoder.parameters(), *found.key_head.parameters()))
    assert all(parameter.grad is not None for parameter in found.encoder.parameters())
    own, key = (module.backbone.bn1.running_mean for module in (found.encoder, found.key_encoder))
    assert not torch.equal(own, key)
    before = key.clone()
    found.after_step(0.5)
    assert torch.equal(key, before)


def test_the_bank_starts_with_unit_vectors_and_its_first_slot() -> None:
    queue = objective().queue
    torch.testing.assert_close(queue.embeddings.norm(dim=1), torch.ones(12))
    assert int(queue.written) == 0


def test_a_forward_pass_alone_changes_neither_keys_nor_bank() -> None:
    found = objective()
    weights = [parameter.clone() for parameter in found.key_encoder.parameters()]
    anchors = found.queue.embeddings.clone()
    found(batch_seeded(0, BATCH))
    assert torch.equal(found.queue.embeddings, anchors)
    assert all(torch.equal(*pair) for pair in zip(found.key_encoder.parameters(), weights, strict=True))


def test_the_defaults_are_the_papers() -> None:
    options = Options()
    assert (options.epochs, options.batch_size, options.learning_rate, options.schedule) == (200, 256, 0.03, "cosine")
    assert (options.optimizer, options.weight_decay, options.sgd_momentum) == ("sgd", 1e-4, 0.9)
    assert (options.temperature, options.queue_length, options.momentum) == (0.2, 65_536, 0.999)
    assert options.projection_dimension == 128
    assert options.drop_last
    assert not options.warmup_epochs


@pytest.mark.parametrize(
    "wrong", [{"temperature": 0.0}, {"momentum": 1.0}, {"queue_length": 0}, {"projection_dimension": 0}]
)
def test_options_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    flag = next(iter(wrong)).replace("_", "-")
    with pytest.raises(UserError, match=f"^--{flag} is "):
        Options(**wrong)  # type: ignore[arg-type]
