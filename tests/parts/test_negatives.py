"""Each loss with negatives against a slow, independent writing of its formula in float64, and lightly's."""

import math

import pytest
import torch
from lightly.loss import DCLLoss, DCLWLoss, NTXentLoss
from lightly.models.modules import NNMemoryBankModule
from scipy import special
from torch.nn import functional as F

from tapetum.parts import losses, negatives


@pytest.fixture
def draw():
    """A function for random rows in float64: `draw(n, unit=True)` gives them length 1."""
    g = torch.Generator().manual_seed(0)

    def rows(count: int, unit: bool = False) -> torch.Tensor:
        x = torch.randn(count, 5, dtype=torch.float64, generator=g)
        return F.normalize(x, dim=1) if unit else x

    return rows


def cos(a, b):
    a, b = a.detach(), b.detach()
    return float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))


def slow_info_nce(q, k, repelled, temperature):
    """`repelled` holds the negatives of each query."""
    total = 0.0
    for a, b, others in zip(q, k, repelled):
        own = math.exp(cos(a, b) / temperature)
        total -= math.log(own / (own + sum(math.exp(cos(a, c) / temperature) for c in others)))
    return total / len(q)


def with_gradient(loss, *tensors):
    """The value of a loss and its gradient towards each tensor."""
    tensors = [x.detach().requires_grad_() for x in tensors]
    value = loss(*tensors)
    return value, *torch.autograd.grad(value, tensors)


def test_info_nce(draw):
    q, k, items = draw(4), draw(4), draw(7, unit=True)
    ours = negatives.info_nce(q, k, items, 0.2)
    assert math.isclose(float(ours), slow_info_nce(q, k, [items] * 4, 0.2), rel_tol=1e-12)


def test_info_nce_is_lightlys_with_its_gradient(draw):
    q, k, items = draw(4), draw(4), draw(7, unit=True)
    theirs = NTXentLoss(temperature=0.2, memory_bank_size=(7, 5))
    theirs.memory_bank.bank = items.clone()
    ours = with_gradient(lambda q: negatives.info_nce(q, k, items, 0.2), q)
    torch.testing.assert_close(ours, with_gradient(lambda q: theirs(q, k), q))


def test_in_batch(draw):
    q, k = draw(6), draw(6)
    others = [torch.cat([k[:i], k[i + 1 :]]) for i in range(6)]
    assert math.isclose(float(negatives.in_batch(q, k, 0.3)), slow_info_nce(q, k, others, 0.3), rel_tol=1e-12)


def slow_decoupled(a, b, temperature, weights):
    total = 0.0
    for i in range(len(a)):
        for x, y in ((a, b), (b, a)):
            others = [v[j] for v in (a, b) for j in range(len(a)) if j != i]
            total += math.log(sum(math.exp(cos(x[i], other) / temperature) for other in others))
            total -= weights[i] * cos(x[i], y[i]) / temperature
    return total / (2 * len(a))


def slow_weights(a, b, sigma):
    near = [math.exp(cos(x, y) / sigma) for x, y in zip(a, b)]
    return [2 - n / (sum(near) / len(near)) for n in near]


def test_decoupled(draw):
    a, b = draw(5), draw(5)
    assert math.isclose(
        float(negatives.decoupled(a, b, 0.2)), slow_decoupled(a, b, 0.2, [1] * 5), rel_tol=1e-12
    )
    weights = negatives.von_mises_fisher(a, b, 0.4)
    assert weights.tolist() == pytest.approx(slow_weights(a, b, 0.4), rel=1e-12)
    want = slow_decoupled(a, b, 0.2, slow_weights(a, b, 0.4))
    assert math.isclose(float(negatives.decoupled(a, b, 0.2, weights)), want, rel_tol=1e-12)


@pytest.mark.filterwarnings("ignore:To copy construct from a tensor")
def test_decoupled_is_lightlys_with_its_gradient(draw):
    a, b = draw(5), draw(5)
    torch.testing.assert_close(
        with_gradient(lambda a, b: negatives.decoupled(a, b, 0.1), a, b),
        with_gradient(DCLLoss(temperature=0.1), a, b),
    )
    torch.testing.assert_close(
        with_gradient(
            lambda a, b: negatives.decoupled(a, b, 0.1, negatives.von_mises_fisher(a, b, 0.5)), a, b
        ),
        with_gradient(DCLWLoss(temperature=0.1, sigma=0.5), a, b),
    )


def test_weights_do_not_overflow_for_a_small_sigma(draw):
    a, b = draw(5).float(), draw(5).float()
    weights = negatives.von_mises_fisher(a, b, 0.005)
    assert weights.isfinite().all() and math.isclose(float(weights.mean()), 1.0, rel_tol=1e-5)


def test_an_easy_pair_still_teaches_when_decoupled():
    """Two images far apart whose views hardly differ: SimCLR's gradient all but vanishes, DCL's does not."""
    a = torch.tensor([[1.0, 0.1], [-1.0, 0.1]])
    b = torch.tensor([[1.0, -0.1], [-1.0, -0.1]])
    ids = torch.arange(2).repeat(2)
    coupled = with_gradient(lambda a: losses.nt_xent(torch.cat([a, b]), ids, 0.1), a)[1]
    freed = with_gradient(lambda a: negatives.decoupled(a, b, 0.1), a)[1]
    assert coupled.norm() < 1e-6 and freed.norm() > 0.5


def slow_mixtures(q, items, u, hardest, pairs, own):
    """The mixed negatives themselves [B, pairs + own, D]."""
    mixed = []
    for b in range(len(q)):
        top = sorted(range(len(items)), key=lambda n: -cos(q[b], items[n]))[:hardest]
        first, step, share = (u[b, part * pairs : (part + 1) * pairs].tolist() for part in range(3))
        alone, ours = (u[b, 3 * pairs + part * own :][:own].tolist() for part in range(2))
        found = []
        for s in range(pairs):
            i = int(first[s] * len(top))
            j = (i + 1 + int(step[s] * (len(top) - 1))) % len(top)
            assert i != j
            found.append(share[s] * items[top[i]] + (1 - share[s]) * items[top[j]])
        for s in range(own):
            share_of_query = ours[s] / 2
            query = q[b] / q[b].norm()
            found.append(share_of_query * query + (1 - share_of_query) * items[top[int(alone[s] * len(top))]])
        mixed.append(torch.stack([x / x.norm() for x in found]))
    return torch.stack(mixed)


@pytest.mark.parametrize("hardest", [4, 100])
def test_mixed_negatives(draw, hardest):
    """Cosines with mixtures that were made one by one, and the gradient when these are held fixed."""
    q, k, items = draw(4), draw(4), draw(9, unit=True)
    u = torch.rand(4, 3 * 6 + 2 * 3, generator=torch.Generator().manual_seed(1)).double()
    mixed = slow_mixtures(q, items, u, hardest, 6, 3)

    def ours(q):
        harder = lambda near: negatives.mixed_negatives(near, items, u, hardest, 6, 3)  # noqa: E731
        return negatives.info_nce(q, k, items, 0.2, harder)

    def held(q):
        q = F.normalize(q, dim=1)
        near = torch.cat(
            [
                (q * F.normalize(k, dim=1)).sum(1, keepdim=True),
                q @ items.T,
                torch.einsum("bd,bsd->bs", q, mixed),
            ],
            1,
        )
        return F.cross_entropy(near / 0.2, torch.zeros(4, dtype=torch.long))

    torch.testing.assert_close(with_gradient(ours, q), with_gradient(held, q))
    repelled = [torch.cat([items, m]) for m in mixed]
    assert math.isclose(float(ours(q)), slow_info_nce(q, k, repelled, 0.2), rel_tol=1e-12)


def test_mixtures_are_harder_than_what_they_are_made_of(draw):
    """Two vectors' mixture, brought back to length 1, is nearer to the query than they are on average; one
    with the query is nearer still."""
    q, items = draw(8, unit=True), draw(64, unit=True)
    near = q @ items.T
    u = torch.rand(8, 5 * 16, generator=torch.Generator().manual_seed(1)).double()
    pairs, own = negatives.mixed_negatives(near, items, u, 16, 16, 16).chunk(2, 1)
    hardest = near.topk(16, 1).values.mean()
    assert hardest < pairs.mean() < own.mean() < 1


def test_nearest_is_lightlys(draw):
    z, items = draw(6), draw(20, unit=True)
    theirs = NNMemoryBankModule(size=(20, 5))
    theirs.bank = items.clone()
    found = negatives.nearest(z.clone().requires_grad_(), items)
    assert torch.equal(found, theirs(z)) and not found.requires_grad
    for a, b in zip(z, found):
        assert max(cos(a, item) for item in items) == pytest.approx(cos(a, b), abs=1e-12)


@pytest.mark.parametrize(("dim", "temperature"), [(2, 0.3), (16, 0.07), (128, 0.07), (128, 0.01)])
def test_the_mean_of_the_exponential_over_all_directions(dim, temperature):
    """Its closed form is Gamma(d/2) (2 t)^(d/2-1) I_{d/2-1}(1/t)."""
    order = dim / 2 - 1
    want = (
        special.gammaln(dim / 2)
        + order * math.log(2 * temperature)
        + math.log(special.ive(order, 1 / temperature))
        + 1 / temperature
    )
    assert math.isclose(negatives.log_mean_exp_cosine(dim, temperature), want, rel_tol=1e-6)


def test_the_constant_is_what_the_first_batch_would_estimate():
    """The paper's way: the mean of exp(v f / t) over a random memory, times its size."""
    g = torch.Generator().manual_seed(0)
    memory = F.normalize(torch.randn(20_000, 64, generator=g), dim=1)
    f = F.normalize(torch.randn(64, generator=g), dim=0)
    estimate = float(((memory @ f) / 0.1).exp().mean())
    assert math.isclose(math.exp(negatives.log_mean_exp_cosine(64, 0.1)), estimate, rel_tol=0.05)


def test_noise_contrast(draw):
    """h = P / (P + m / n) with P = exp(v f / t) / Z, for a memory of n = 50."""
    v, own, noise, n, m, t = draw(4), draw(4, unit=True), draw(6, unit=True), 50, 6, 0.3
    z = n * math.exp(negatives.log_mean_exp_cosine(5, t))

    def h(a, b):
        p = math.exp(cos(a, b) / t) / z
        return p / (p + m / n)

    total = 0.0
    for i in range(4):
        total -= math.log(h(v[i], own[i])) + sum(math.log(1 - h(v[i], other)) for other in noise)
    assert math.isclose(float(negatives.noise_contrast(v, own, noise, t)), total / 4, rel_tol=1e-12)


def test_among_all(draw):
    v, memory, index = draw(4), draw(9, unit=True), torch.tensor([3, 0, 8, 3])
    total = 0.0
    for a, i in zip(v, index.tolist()):
        bottom = sum(math.exp(cos(a, other) / 0.1) for other in memory)
        total -= math.log(math.exp(cos(a, memory[i]) / 0.1) / bottom)
    assert math.isclose(float(negatives.among_all(v, index, memory, 0.1)), total / 4, rel_tol=1e-12)


def softmax(values):
    bottom = sum(math.exp(v) for v in values)
    return [math.exp(v) / bottom for v in values]


def test_same_relations(draw):
    q, k, items = draw(4), draw(4), draw(9, unit=True)
    total = 0.0
    for a, b in zip(q, k):
        wanted, given = (softmax([cos(x, item) / t for item in items]) for x, t in ((b, 0.04), (a, 0.1)))
        total -= sum(w * math.log(p) for w, p in zip(wanted, given))
    assert math.isclose(float(negatives.same_relations(q, k, items, 0.1, 0.04)), total / 4, rel_tol=1e-12)


def test_all_is_computed_in_full_precision_under_autocast(draw):
    q, k, items = draw(8).float(), draw(8).float(), draw(9, unit=True).float()
    u = torch.rand(8, 25, generator=torch.Generator().manual_seed(1))

    def values():
        harder = lambda near: negatives.mixed_negatives(near, items, u, 4, 5, 5)  # noqa: E731
        return [
            negatives.info_nce(q, k, items, 0.2, harder),
            negatives.in_batch(q, k, 0.2),
            negatives.decoupled(q, k, 0.1, negatives.von_mises_fisher(q, k, 0.5)),
            negatives.nearest(q, items),
            negatives.noise_contrast(q, k, items, 0.1),
            negatives.among_all(q, torch.arange(8), items, 0.1),
            negatives.same_relations(q, k, items, 0.1, 0.04),
        ]

    exact = values()
    with torch.autocast("cpu", torch.bfloat16):
        assert all(torch.equal(a, b) for a, b in zip(values(), exact))
        assert negatives.unit(q.bfloat16()).dtype == torch.float32
