"""AGVWarehouse: rays against a march, motion against equations by hand, what it sees, pays and never runs through."""

from math import pi

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxrl.envs import coverage
from jaxrl.envs.check import check_env
from jaxrl.envs.coverage.agv_geometry import LAYOUTS, ray_lengths
from jaxrl.envs.coverage.agv_warehouse import LANES, OBSTACLE_RADIUS, RADIUS, AGVWarehouse, AGVWarehouseParams
from jaxrl.envs.params import check_traceable, param_names
from jaxrl.errors import UserError

PARAMS = AGVWarehouseParams()
FORWARD = jnp.array([1.0, 0.0])


@pytest.fixture(scope="module")
def step():
    """``step(state, action, params)`` among the shelves; one program for all params."""
    env = AGVWarehouse(pose=True, max_steps=20)
    program = jax.jit(lambda state, action, params: env.step_env(jax.random.key(0), state, action, params))
    return lambda state, action, params=PARAMS: program(state, action, jax.tree.map(jnp.asarray, params))


@pytest.fixture(scope="module")
def still():
    """``still(x, y, heading, **others)``: a vehicle at rest, nothing moving, the target in the upper right corner."""
    start = AGVWarehouse().reset_env(jax.random.key(0), PARAMS)[1]

    def state(x, y, heading=0.0, **others):
        place = {"position": jnp.array([x, y]), "heading": jnp.float32(heading), "target": jnp.array([9.0, 9.0])}
        return start._replace(**place | {"time": jnp.int32(0)} | others)

    return state


def clearance(position, boxes):
    """Metres from the vehicle's centre to the nearest wall or shelf."""
    walls = np.minimum(position, 10 - position).min(-1)
    nearest = np.clip(position[..., None, :], boxes[:, :2], boxes[:, 2:])
    shelves = np.linalg.norm(position[..., None, :] - nearest, axis=-1)
    return np.minimum(walls, shelves.min(-1, initial=np.inf))


def test_contract():
    task = coverage.make("coverage/AGVWarehouse", max_steps=30, pose=True)
    seen = check_env(task, steps=70)
    assert seen["limit_tested"] and seen["truncated"] == 2 and seen["terminated"] == 0 and seen["random_starts"]
    for name in param_names(task.params):
        check_traceable(task, name)
    assert task.obs_shape == (25,) and task.solved == 0.9 and task.num_states == 400


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rays_against_a_march(layout):
    random, boxes = np.random.default_rng(0), LAYOUTS[layout].boxes
    discs = random.uniform(1, 9, (4, 2))
    origins = random.uniform(0.05, 9.95, (40, 2))
    angles = np.r_[np.arange(8) * pi / 4, random.uniform(-pi, pi, 8)]
    directions = np.stack([np.cos(angles), np.sin(angles)], -1).astype(np.float32)
    every = jax.vmap(ray_lengths, (0, None, None, None, None))
    found = np.asarray(jax.jit(every)(origins, directions, jnp.asarray(boxes), discs, 0.3))
    length = np.arange(0, 15, 2e-3)
    for origin, lengths in zip(origins, found, strict=True):
        points = origin + length[:, None, None] * directions  # [L, R, 2]
        hit = ((points <= 0) | (points >= 10)).any(-1)
        for box in boxes:
            hit |= ((points > box[:2]) & (points < box[2:])).all(-1)
        for disc in discs:
            hit |= np.linalg.norm(points - disc, axis=-1) < 0.3
        marched = length[hit.argmax(0)]
        # A ray along a shelf's edge, or a chord shorter than the march's step, may go either way.
        assert np.mean(np.abs(lengths - marched) < 5e-3) > 0.98


def test_motion_by_hand(step, still):
    """Acceleration against friction for three steps, then turning."""
    state, speed, x = still(1.0, 1.0), 0.0, 1.0
    for _ in range(3):
        _, state, reward, *_ = step(state, FORWARD)
        speed += 0.1 * (1 - 0.1 * speed)
        x += 0.1 * speed
        assert state.speed == pytest.approx(speed) and reward == pytest.approx(-1e-4)
        np.testing.assert_allclose(state.position, [x, 1.0], rtol=1e-6)
    _, state, *_ = step(still(1.0, 1.0, pi / 2, speed=jnp.float32(1), turn=jnp.float32(1.5)), jnp.array([1.0, 1.0]))
    heading = pi / 2 + 0.15
    assert state.speed == 1 and state.turn == 1.5, "limits"
    assert state.heading == pytest.approx(heading)
    np.testing.assert_allclose(state.position, [1 + 0.1 * np.cos(heading), 1 + 0.1 * np.sin(heading)], rtol=1e-5)
    _, state, *_ = step(still(1.0, 1.0), jnp.array([-1.0, 0.0]))
    assert state.speed == 0, "forwards only"
    _, state, *_ = step(still(5.0, 1.0, pi - 0.01, turn=jnp.float32(1.0)), jnp.array([0.0, 0.0]))
    assert -pi <= state.heading < -pi + 0.1


def test_collision_slides_and_costs(step, still):
    """Up and to the right into the lower edge of a shelf, y = 2.2: x goes on, y stays, and 0.01 is paid."""
    state = still(3.8, 2.2 - RADIUS - 0.01, pi / 4, speed=jnp.float32(1))
    _, after, reward, terminated, _, info = step(state, FORWARD)
    assert after.position[1] == state.position[1] and after.position[0] == pytest.approx(3.8 + 0.1 * np.cos(pi / 4))
    assert reward == pytest.approx(-1e-4 - 0.01) and not terminated and info["collision"] == 1
    _, _, _, terminated, truncated, _ = step(state, FORWARD, PARAMS.replace(collision_ends=True))
    assert terminated and not truncated
    _, after, _, _, _, info = step(still(1.0, 1.0, pi / 4, speed=jnp.float32(1)), FORWARD)
    assert info["collision"] == 0 and after.position[1] > 1
    corner = still(RADIUS + 0.01, RADIUS + 0.01, -3 * pi / 4, speed=jnp.float32(1))
    np.testing.assert_array_equal(step(corner, FORWARD)[1].position, corner.position)


def test_reaching_the_target_pays_and_ends(step, still):
    near = still(9.0 - 0.45, 9.0, 0.0, speed=jnp.float32(1), time=jnp.int32(19))
    _, _, reward, terminated, truncated, _ = step(near, FORWARD)
    assert reward == pytest.approx(1 - 1e-4) and terminated and not truncated
    _, _, reward, terminated, truncated, _ = step(still(8.4, 9.0, time=jnp.int32(19)), FORWARD)
    assert reward < 0 and not terminated and truncated
    assert not step(still(8.4, 9.0, time=jnp.int32(18)), FORWARD)[4]


def test_the_target_is_seen_only_near_and_unhidden(step, still):
    rest = jnp.zeros(2)
    hidden = lambda state, params=PARAMS: np.asarray(step(state, rest, params)[0][20:23])
    np.testing.assert_allclose(hidden(still(8.0, 9.0, pi / 2)), [1, 0, -0.1], atol=1e-6)
    np.testing.assert_array_equal(hidden(still(6.9, 9.0)), [0, 0, 0])
    np.testing.assert_allclose(hidden(still(6.9, 9.0), PARAMS.replace(sight=2.2)), [1, 0.21, 0], atol=1e-6)
    np.testing.assert_allclose(hidden(still(5.0, 1.0), PARAMS.replace(target_known=True)), [1, 0.4, 0.8], atol=1e-6)
    behind = still(4.0, 1.8, target=jnp.array([4.0, 3.3]))
    np.testing.assert_array_equal(hidden(behind), [0, 0, 0])
    np.testing.assert_allclose(hidden(still(5.0, 1.8, target=jnp.array([5.0, 3.3]))), [1, 0, 0.15], atol=1e-6)
    blocked = still(8.0, 9.0, obstacles=jnp.full((4, 2), -100.0).at[2].set(jnp.array([8.5, 9.0])))
    np.testing.assert_array_equal(hidden(blocked), [0, 0, 0])


def test_observation(step, still):
    obs = np.asarray(step(still(4.0, 1.0, pi / 2, turn=jnp.float32(0.5)), jnp.zeros(2))[0])
    heading, turn = pi / 2 + 0.0495, 0.495
    assert obs.shape == (25,) and obs[16] == 0
    np.testing.assert_allclose(obs[17:20], [turn / 1.5, np.sin(heading), np.cos(heading)], rtol=1e-4)
    np.testing.assert_allclose(obs[23:], [0.4, 0.1], rtol=1e-6)
    np.testing.assert_allclose(obs[0], 1.2 / np.sin(heading) / 5, rtol=1e-4)
    np.testing.assert_allclose(obs[4], 4.0 / np.cos(heading - pi / 2) / 5, rtol=1e-4)
    assert obs[12] == 1, "rays end at 5 m"


def test_state_id(still):
    env = AGVWarehouse()
    for x, y, number in ((0.3, 0.3, 0), (0.6, 0.3, 1), (0.3, 0.6, 20), (9.75, 9.75, 399), (5.2, 7.4, 14 * 20 + 10)):
        assert env.state_id(still(x, y), PARAMS) == number


@pytest.fixture(scope="module")
def drives():
    """600 steps of 16 vehicles at full speed with random steering, in three worlds of one compiled program."""
    env = AGVWarehouse(max_steps=1000)

    def drive(key, params):
        reset_key, steer_key = jax.random.split(key)
        first = env.reset_env(reset_key, params)[1]
        steering = jnp.repeat(jax.random.uniform(steer_key, (60,), minval=-1, maxval=1), 10)

        def body(state, steer):
            _, state, _, _, _, info = env.step_env(key, state, jnp.stack([1.0, steer]), params)
            return state, (state, info["collision"])

        return jax.lax.scan(body, first, steering)[1]

    lanes = jax.tree.map(lambda number: jnp.full(3, jnp.asarray(number)), PARAMS)
    lanes = lanes.replace(moving_obstacles=jnp.array([0, 2, 4]), target_speed=jnp.array([0.0, 0.3, 0.3]))
    program = jax.jit(jax.vmap(jax.vmap(drive, (0, None)), (None, 0)))
    return jax.tree.map(np.asarray, program(jax.random.split(jax.random.key(6), 16), lanes))


def test_nothing_overlaps(drives):
    states, collided = drives
    boxes = LAYOUTS["shelves"].boxes
    assert clearance(states.position, boxes).min() > RADIUS - 1e-5
    between = np.linalg.norm(states.position[..., None, :] - states.obstacles, axis=-1)
    assert between.min() > RADIUS + OBSTACLE_RADIUS - 1e-5
    assert between[2].min() < RADIUS + OBSTACLE_RADIUS + 0.05, "they do meet"
    assert 0.01 < collided.mean() < 0.99
    spread = states.position[0].reshape(-1, 2)
    assert len(np.unique(np.floor(spread / 0.5), axis=0)) > 100, "the vehicles get about"


def test_obstacles_go_to_and_fro(drives):
    states, _ = drives
    there = states.obstacles[..., 0] > -1
    np.testing.assert_array_equal(there[:, :, 0].sum(-1), np.repeat([[0], [2], [4]], 16, 1))
    moving = states.obstacles[2]  # [episodes, time, 4, 2]
    np.testing.assert_array_equal(moving[..., 1], np.broadcast_to(LANES, moving.shape[:-1]))
    moves = np.diff(moving[..., 0], axis=1)
    assert np.all((np.abs(moves) < 1e-6) | (np.abs(np.abs(moves) - 0.05) < 1e-5)), "0.5 m/s, or turning round"
    assert np.mean(np.abs(moves) > 1e-6) > 0.9
    assert moving[..., 0].min() < OBSTACLE_RADIUS + 0.06 and moving[..., 0].max() > 10 - OBSTACLE_RADIUS - 0.06


def test_target_moves_along_its_lane(drives):
    target = drives[0].target
    assert (target[0] == target[0][:, :1]).all()
    x, y = target[1][..., 0], target[1][..., 1]
    assert (y == y[:, :1]).all() and set(np.unique(y)) == {1.0, 9.0}
    assert x.min() == 1 and x.max() == 9
    speeds = np.abs(np.diff(x, axis=1)) / 0.1
    assert np.median(speeds) == pytest.approx(0.3, rel=1e-3) and speeds.max() < 0.301


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_target_can_be_reached(layout):
    """Flood the places of the vehicle's centre, 5 cm apart."""
    place = LAYOUTS[layout]
    x = np.arange(0.025, 10, 0.05)
    free = clearance(np.stack(np.meshgrid(x, x, indexing="ij"), -1), place.boxes) > RADIUS + 0.02
    labels, _ = ndimage.label(free)
    cell = lambda point: labels[tuple((np.asarray(point) / 0.05).astype(int))]
    assert cell(place.start) > 0 and all(cell(target) == cell(place.start) for target in place.targets)
    spawn = np.stack(np.meshgrid(np.linspace(*place.spawn, 50), LANES), -1)
    assert clearance(spawn, place.boxes).min() > OBSTACLE_RADIUS
    assert np.linalg.norm(spawn - place.start, axis=-1).min() > RADIUS + OBSTACLE_RADIUS


def test_a_driver_who_knows_the_target_gets_there():
    """The whole task, by a controller that turns to the target; in the U the same driver gets stuck."""

    def share(layout):
        env, params = AGVWarehouse(layout, max_steps=300), PARAMS.replace(target_known=True)

        def one(key):
            obs, state = env.reset_env(key, params)

            def body(carry, _):
                obs, state, reached = carry
                bearing = jnp.arctan2(obs[22], obs[21])
                steer = jnp.clip(3 * bearing - 3 * state.turn, -1, 1)
                push = jnp.where(jnp.abs(bearing) < 0.3, 1.0, -1.0)
                obs, state, _, terminated, _, _ = env.step_env(key, state, jnp.stack([push, steer]), params)
                return (obs, state, reached | terminated), None

            return jax.lax.scan(body, (obs, state, jnp.bool_(False)), length=300)[0][2]

        return float(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(8), 32)).mean())

    assert share("open") == 1
    assert share("u") == 0


def test_render(still):
    env = AGVWarehouse()
    state = still(3.0, 1.0, obstacles=jnp.full((4, 2), -100.0).at[0].set(jnp.array([6.0, 3.4])))
    picture = np.asarray(jax.jit(env.render)(state, PARAMS))
    assert picture.shape == (200, 200, 3) and picture.dtype == np.uint8
    colour = lambda x, y: tuple(picture[199 - round(20 * y), round(20 * x)])
    floor, shelf, vehicle, target, obstacle = (
        colour(*place) for place in ((5.0, 5.0), (2.0, 2.5), (2.9, 1.0), (9.0, 9.0), (6.0, 3.4))
    )
    assert len({floor, shelf, vehicle, target, obstacle}) == 5
    area = (picture == np.array(obstacle)).all(-1).sum() / 400
    assert area == pytest.approx(pi * OBSTACLE_RADIUS**2, rel=0.1)


def test_scenes_of_the_paper():
    limits = {"SimpleStatic": 2000, "SimpleDynamic": 2000, "ComplexStatic": 3000, "ComplexDynamic": 4000}
    for scene, limit in limits.items():
        task = coverage.make(f"coverage/AGVWarehouse-{scene}")
        assert task.max_steps == limit
        assert (task.params.target_speed > 0) == ("Dynamic" in scene)
        assert (len(task.env.layout.boxes) == 12) == ("Complex" in scene)
    assert coverage.make("coverage/AGVWarehouse-SimpleStatic", max_steps=7, target_speed=1.0).max_steps == 7


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"layout": "shelfs"}, "unknown layout 'shelfs': did you mean 'shelves'"),
        ({"moving_obstacles": 5}, "params.moving_obstacles=5 must be a whole number from 0 to 4"),
        ({"obstacle_speed": 9.0}, "params.obstacle_speed=9.0 must be a number from 0 to 2.5"),
        ({"sight": -1.0}, "params.sight=-1.0 must be a number from 0 to inf"),
        ({"max_steps": 1.5}, "max_steps=1.5 must be a whole number"),
        ({"frictions": 1.0}, "did you mean 'friction'"),
    ],
)
def test_bad_input(arguments, words):
    with pytest.raises(UserError) as error:
        coverage.make("coverage/AGVWarehouse", **arguments)
    assert words in str(error.value)
