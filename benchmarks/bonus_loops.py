"""The bonuses as one writes them in NumPy: one environment and one step at a time, each step vectorised over features.

Every function takes a bonus's state and memory and one batch ``[T, N, ...]``, all as NumPy arrays, and returns the
bonuses ``[T, N]`` that `label` pays for it with its default arguments, in float32. `make bench-bonus` compares the two,
in what they pay and in time; memories other than those of nearest neighbours start empty.
"""

import numpy as np

from jaxrl.intrinsic.hashing import LARGEST, QUANTUM


def relu(x):
    return np.maximum(x, 0.0)


def layers(params, member=None):
    """[(kernel ``[out, in]``, bias)] of an MLP's parameters, or of one member of an ensemble's ``[K, ...]``."""
    dense = params["params"]
    pairs = [(dense[f"Dense_{i}"]["kernel"], dense[f"Dense_{i}"]["bias"]) for i in range(len(dense))]
    return pairs if member is None else [(kernel[member], bias[member]) for kernel, bias in pairs]


def mlp(layers, x):
    for kernel, bias in layers[:-1]:
        x = relu(kernel @ x + bias)
    kernel, bias = layers[-1]
    return kernel @ x + bias


def layer_norm(x):
    x = x - x.mean()
    return x / np.sqrt((x * x).mean() + np.float32(1e-6))


def one_hot(action, actions=4):
    return (np.arange(actions) == action).astype(np.float32)


def bucket(x, buckets):
    if x.dtype != np.int32:
        x = np.clip(np.round(x / np.float32(QUANTUM)), -LARGEST, LARGEST).astype(np.int32)
    position = np.arange(1, len(x) + 1, dtype=np.uint32) * np.uint32(0x9E3779B9)
    return int(_mix(_mix(x.astype(np.uint32) + position).sum(dtype=np.uint32, keepdims=True))[0]) & (buckets - 1)


def _mix(h):
    h = (h ^ (h >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    h = (h ^ (h >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return h ^ (h >> np.uint32(16))


def scored(batch, score):
    """Bonuses ``[T, N]`` of `score(step, n)`, step by step; `step` has the fields of one transition."""
    bonus = np.empty(batch.first.shape, np.float32)
    for t, n in np.ndindex(bonus.shape):
        bonus[t, n] = score(type(batch)(*(field[t, n] for field in batch[:-1]), ()), n)
    return bonus


def rows_of(moments):
    return (int(moments.rows.high) << 32) + int(moments.rows.low)


def deviation(moments, epsilon=1e-8):
    return np.sqrt((moments.spread if rows_of(moments) else 1.0) + epsilon)


def whitened(moments, obs):
    return np.clip((obs - moments.mean) / deviation(moments), -5.0, 5.0)


def merged(moments, values):
    """`moments` of scalars with an array of further ones."""
    rows = rows_of(moments) + values.size
    delta = values.mean() - moments.mean
    share = values.size / rows
    spread = (1 - share) * (moments.spread + delta**2 * share) + share * values.var()
    count = type(moments.rows)(rows >> 32, rows & 0xFFFFFFFF)
    return moments._replace(rows=count, mean=moments.mean + delta * share, spread=spread)


def over_return(moments, bonus, discount=0.99):
    """The bonus over the deviation of its running discounted sum."""
    filtered, sums = np.zeros(bonus.shape[1], np.float32), np.empty_like(bonus)
    for t in range(len(bonus)):
        filtered = discount * filtered + bonus[t]
        sums[t] = filtered
    return bonus / deviation(merged(moments, sums))


def episodic_visits(envs, buckets=2**14):
    """visit(step, n): which visit of this episode the arrival is."""
    visits: list[dict[int, int]] = [{} for _ in range(envs)]

    def visit(step, n):
        if step.first:
            visits[n] = {bucket(step.obs, buckets): 1}
        x = bucket(step.next_obs, buckets)
        visits[n][x] = visits[n].get(x, 0) + 1
        return visits[n][x]

    return visit


def count(visits, memory, batch):
    return scored(batch, lambda step, n: 1.0 / np.sqrt(visits[bucket(step.next_obs, len(visits))] + 1.0))


def episodic_count(state, memory, batch):
    visit = episodic_visits(batch.first.shape[1])
    return scored(batch, lambda step, n: 1.0 / np.sqrt(visit(step, n)))


def simhash(state, memory, batch):
    def score(step, n):
        code = (state.projection @ step.next_obs > 0).astype(np.int32)
        return 1.0 / np.sqrt(state.visits[bucket(code, len(state.visits))] + 1.0)

    return scored(batch, score)


def distilled(state):
    """RND's squared error of one observation, under moments of observations."""
    target, predictor = layers(state.inner.target), layers(state.inner.predictor)

    def error(obs):
        x = whitened(state.moments, obs)
        return ((mlp(predictor, x) - mlp(target, x)) ** 2).mean()

    return error


def rnd(state, memory, batch):
    error = distilled(state.inner)
    return over_return(state.moments, scored(batch, lambda step, n: error(step.next_obs)))


def noveld(state, memory, batch):
    error, visit = distilled(state.inner[0]), episodic_visits(batch.first.shape[1])

    def score(step, n):
        rise = np.sqrt(error(step.next_obs)) - 0.5 * np.sqrt(error(step.obs))
        return max(rise, 0.0) * (visit(step, n) == 1)

    return over_return(state.moments, scored(batch, score))


def rdd(state, memory, batch):
    moments, state = state
    target, predictor = layers(state.mean), layers(state.predictor)

    def score(step, n):
        x = whitened(state.seen.moments, step.next_obs)
        return ((mlp(predictor, x) - mlp(target, x)) ** 2).mean()

    return over_return(moments, scored(batch, score))


def cfn(state, memory, batch):
    prior, learned, spread = layers(state.prior), layers(state.params), deviation(state.outputs, 1e-4)

    def score(step, n):
        x = whitened(state.seen.moments, step.next_obs)
        return np.sqrt(((mlp(learned, x) + (mlp(prior, x) - state.outputs.mean) / spread) ** 2).mean())

    return scored(batch, score)


def icm(state, memory, batch):
    params = state.inner.params
    embedding, forward = layers(params["embedding"]), layers(params["forward"])

    def score(step, n):
        here, there = layer_norm(mlp(embedding, step.obs)), layer_norm(mlp(embedding, step.next_obs))
        return 0.5 * ((mlp(forward, np.concatenate([here, one_hot(step.action)])) - there) ** 2).mean()

    return over_return(state.moments, scored(batch, score))


def ride(state, memory, batch):
    embedding, visit = layers(state.inner[0].params["embedding"]), episodic_visits(batch.first.shape[1])

    def score(step, n):
        change = layer_norm(mlp(embedding, step.next_obs)) - layer_norm(mlp(embedding, step.obs))
        return np.linalg.norm(change) / np.sqrt(visit(step, n))

    return over_return(state.moments, scored(batch, score))


def disagreement(state, memory, batch, members=5):
    moments, models = state.inner.moments, [layers(state.inner.inner.models, k) for k in range(members)]
    embedding = layers(state.inner.inner.embedding)

    def score(step, n):
        given = np.concatenate([mlp(embedding, whitened(moments, step.obs)), one_hot(step.action)])
        return np.array([mlp(model, given) for model in models]).var(0).mean()

    return over_return(state.moments, scored(batch, score))


def forward_error(state, memory, batch):
    model = layers(state.inner.models, 0)

    def score(step, n):
        here, there = whitened(state.moments, step.obs), whitened(state.moments, step.next_obs)
        return np.tanh(0.2 * ((mlp(model, np.concatenate([here, one_hot(step.action)])) - there) ** 2).mean())

    return scored(batch, score)


def e3b(state, memory, batch, ridge=0.1):
    embedding = layers(state.inner.params["embedding"])
    dim = len(embedding[-1][1])
    inverses = [np.eye(dim, dtype=np.float32) for _ in range(batch.first.shape[1])]

    def add(n, obs):
        x = layer_norm(mlp(embedding, obs))
        u = inverses[n] @ x
        bonus = x @ u
        inverses[n] -= np.outer(u, u / (1.0 + bonus))
        return bonus

    def score(step, n):
        if step.first:
            inverses[n] = np.eye(dim, dtype=np.float32) / np.float32(ridge)
            add(n, step.obs)
        return add(n, step.next_obs)

    bonus = scored(batch, score)
    return bonus / deviation(merged(state.moments, bonus))


def distances_to_all(embed, batch):
    """The distances ``[T * N]`` of each arrival to all of the batch, one arrival after the other."""
    points = np.array([embed(obs) for obs in batch.next_obs.reshape(-1, batch.next_obs.shape[-1])])
    for point in points:
        yield np.sqrt(((points - point) ** 2).sum(-1))


def re3(state, memory, batch, k=3):
    encoder, moments = layers(state.inner.inner.encoder), state.inner.moments
    near = [np.partition(row, k)[k] for row in distances_to_all(lambda obs: mlp(encoder, obs), batch)]
    distance = np.array(near).reshape(batch.first.shape)
    return np.log1p(distance / deviation(merged(moments, distance)))


def apt(state, memory, batch, k=12):
    embedding = layers(state.params["embedding"])
    rows = distances_to_all(lambda obs: layer_norm(mlp(embedding, obs)), batch)
    return np.log1p(np.array([np.partition(row, k - 1)[:k].mean() for row in rows])).reshape(batch.first.shape)


def ngu(state, memory, batch, k=10):
    kernel, novelty = state
    embedding, error = layers(kernel.inner.params["embedding"]), distilled(novelty.inner)
    rings, sizes, opening = (np.array(x) for x in memory[0])
    capacity, mean, seen = rings.shape[1], float(kernel.mean), float(kernel.seen)
    bonus = np.empty(batch.first.shape, np.float32)
    for t in range(len(bonus)):
        squared = []
        for n in range(bonus.shape[1]):
            x = layer_norm(mlp(embedding, batch.next_obs[t, n]))
            place = sizes[n] % capacity  # the oldest row makes room for this one; the opening one always stays
            rings[n, place] = x
            sizes[n] += 1
            distances = ((rings[n, : sizes[n]] - x) ** 2).sum(-1)
            distances[place] = ((opening[n] - x) ** 2).sum()
            squared.append(np.sort(np.partition(distances, k)[:k]))
        total = sum(near.sum() for near in squared)
        mean, seen = (mean * seen + total) / (seen + k * len(squared)), seen + k * len(squared)
        for n, near in enumerate(squared):
            apart = np.maximum(near / mean - 0.008, 0.0)
            similarity = np.sqrt((1e-4 / (apart + 1e-4)).sum()) + 0.001
            bonus[t, n] = 0.0 if similarity > 8.0 else 1.0 / similarity
    lifelong = scored(batch, lambda step, n: error(step.next_obs))
    moments = merged(novelty.moments, lifelong)
    return bonus * np.clip(1.0 + (lifelong - moments.mean) / deviation(moments), 1.0, 5.0)


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def deir(state, memory, batch, momentum=0.9):
    params, average = state.params, state.average
    embedding, core = layers(params["embedding"]), params["gru"]
    embed = lambda obs: layer_norm(mlp(embedding, obs))
    hidden, (rings, opening, sizes) = np.array(memory.trajectory), (np.array(x) for x in memory.history)
    dim, capacity = len(embedding[-1][1]), rings.shape[1]

    def advance(h, x):
        given = np.split(x @ core["input"] + core["bias"], 3)
        kept = np.split(h @ core["hidden"], 3)
        reset, keep = sigmoid(given[0] + kept[0]), sigmoid(given[1] + kept[1])
        return (1.0 - keep) * np.tanh(given[2] + reset * (kept[2] + core["candidate_bias"])) + keep * h

    def distance(rows, x):
        square = (rows - x) ** 2
        return square[..., :dim].sum(-1) / (np.sqrt(square[..., dim:].sum(-1)) + 1e-6)

    def score(step, n):
        hidden[n] = advance(hidden[n], embed(step.obs))
        x = np.concatenate([embed(step.next_obs), hidden[n]])
        least = min(distance(rings[n, : min(sizes[n], capacity)], x).min(), distance(opening[n], x))
        rings[n, sizes[n] % capacity] = x
        sizes[n] += 1
        return least

    raw = scored(batch, score)
    rate = (1.0 - momentum) / (1.0 - momentum ** (average.batches + 1.0))
    mean = average.mean + rate * (raw.mean() - average.mean)
    variance = average.variance + rate * (((raw - mean) ** 2).mean() - average.variance)
    return (raw - mean) / np.sqrt(variance + 1e-8)


LOOPS = {
    loop.__name__: loop
    for loop in (
        count, episodic_count, simhash, cfn, rnd, rdd, e3b, icm, disagreement, forward_error, ride, noveld, re3, apt,
        ngu, deir,
    )
}  # fmt: skip
