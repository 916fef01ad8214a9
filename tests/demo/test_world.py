"""The rendered world: geometry by hand-worked cases, the figure, and what must not give a class away."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amefu_cli.demo.actions import ACTIONS, WORLD_SPLIT, push_up, squat
from amefu_cli.demo.clips import render_clip
from amefu_cli.demo.figure import SHOES, bend, draw_body, limbs_of, standing
from amefu_cli.demo.render import ball_bounds, meet_boxes, meet_capsules, render
from amefu_cli.demo.scene import Boxes, Camera, Capsules, Room, Scene, draw_clutter, draw_materials, looking_at

AHEAD = Camera(np.zeros((1, 3), np.float32), np.diag([1, -1, 1]).astype(np.float32)[None], 10.0, 21, 31)
"""At the origin, looking along z; the middle pixel is row 10, column 15, and a pixel is a slope of 0.1."""


def some_body():
    return draw_body(np.random.default_rng(0))


def a_scene(capsules: list[tuple] = (), boxes: list[tuple] = ()) -> Scene:
    """Capsules (start, end, radius) and boxes (centre, half sizes) in a room whose back wall is at z = 6."""
    count = len(capsules) + len(boxes)
    ends = np.array([capsule[:2] for capsule in capsules], np.float32).reshape(-1, 2, 3)
    sizes = np.array(boxes, np.float32).reshape(-1, 2, 3)
    return Scene(
        room=Room(np.array([-50, -50, -50], np.float32), np.array([50, 50, 6], np.float32), 0.0),
        capsules=Capsules(
            ends[None, :, 0],
            ends[None, :, 1],
            np.array([capsule[2] for capsule in capsules], np.float32),
            6 + np.arange(len(capsules)),
        ),
        boxes=Boxes(
            sizes[None, :, 0],
            np.tile(np.eye(3, dtype=np.float32), (1, len(boxes), 1, 1)),
            sizes[:, 1],
            6 + len(capsules) + np.arange(len(boxes)),
        ),
        materials=draw_materials(6 + count, np.random.default_rng(0)),
        light=np.array([0, 1, 0], np.float32),
        ambient=1.0,
        exposure=1.0,
        noise=0.0,
    )


def depth_of(scene: Scene, camera: Camera = AHEAD) -> np.ndarray:
    return render(scene, camera, np.random.default_rng(0))[1][0]


def test_a_wall_has_one_depth_along_the_viewing_axis():
    assert depth_of(a_scene()) == pytest.approx(np.full((21, 31), 6.0))


def test_a_ball_straight_ahead():
    ball = (0, 0, 4), (0, 0, 4), 0.5
    depth = depth_of(a_scene([ball]))
    assert depth[10, 15] == pytest.approx(3.5)
    # One pixel aside the ray is (0.1 t, 0, t): 1.01 t² - 8 t + 15.75 = 0, t = (8 - √0.37) / 2.02.
    aside = (8 - np.sqrt(0.37)) / 2.02
    for row, column in ((10, 14), (10, 16), (9, 15), (11, 15)):
        assert depth[row, column] == pytest.approx(aside, rel=1e-5)
    # Two pixels aside: 1.04 t² - 8 t + 15.75 = 0 has no solution (64 < 65.52).
    assert depth[10, 17] == pytest.approx(6)


def test_a_box_ahead_shows_its_front_and_the_nearest_thing_wins():
    box, ball = ((0, 0, 3), (0.5, 0.5, 1)), ((0, 0, 2.2), (0, 0, 2.2), 0.3)
    front = depth_of(a_scene(boxes=[box]))
    assert front[8:13, 13:18] == pytest.approx(np.full((5, 5), 2.0))  # slopes to 0.2; its edge is at 0.25
    assert front[10, 18] == pytest.approx(6)
    both = depth_of(a_scene([ball], [box]))
    assert both[10, 15] == pytest.approx(1.9)
    assert both[10, 17] == pytest.approx(2.0)


def test_a_capsule_across_the_view_is_a_cylinder_with_round_ends():
    depth = depth_of(a_scene([((-1, 0, 4), (1, 0, 4), 0.5)]))
    assert depth[10, 13:18] == pytest.approx(np.full(5, 3.5))
    # Slope 0.3: the end's ball about (1, 0, 4) gives 1.09 t² - 8.6 t + 16.75 = 0.
    assert depth[10, 18] == pytest.approx((8.6 - np.sqrt(8.6**2 - 4 * 1.09 * 16.75)) / 2.18, rel=1e-5)


def test_what_lies_behind_the_camera_is_not_seen():
    depth = depth_of(a_scene([((0, 0, -4), (0, 0, -4), 0.5)], [((0, 0, -3), (0.5, 0.5, 0.5))]))
    assert depth == pytest.approx(np.full((21, 31), 6.0))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_every_depth_of_a_capsule_lies_on_its_surface(seed):
    rng = np.random.default_rng(seed)
    start = rng.uniform([-1, -1, 3], [1, 1, 6], size=(8, 3))
    axis = rng.uniform(-1, 1, size=(8, 3)) * rng.integers(2, size=(8, 1))  # half of them are balls
    radius = rng.uniform(0.05, 0.5, size=8)
    owner = np.repeat(np.arange(8), 200)
    right, down = (start[owner, k] / start[owner, 2] + rng.uniform(-0.3, 0.3, size=1600) for k in (0, 1))
    depth, _ = meet_capsules(right, down, owner, start, axis, radius)
    met = np.flatnonzero(np.isfinite(depth))
    point = depth[met, None] * np.stack([right[met], down[met], np.ones(len(met))], axis=1)
    way = point - start[owner[met]]
    length = np.maximum((axis**2).sum(1), 1e-12)[owner[met]]
    place = np.clip((way * axis[owner[met]]).sum(1) / length, 0, 1)
    distance = np.linalg.norm(way - place[:, None] * axis[owner[met]], axis=1)
    assert len(met) > 20
    assert distance == pytest.approx(radius[owner[met]], rel=1e-4)


def test_rays_that_enter_a_box_say_through_which_side():
    zero, half = np.zeros(3), np.ones(3)
    # From 3 m before the box: straight on, aside past it, and from above through its top.
    rays = [np.array([0.0, 0.9, 0.0]), np.array([0.0, 0.0, -0.5]), np.ones(3)]
    depth, side = meet_boxes([zero, np.array([0, 0, 2.0]), zero - 3], rays, [half, half, half])
    assert depth.tolist() == [2.0, np.inf, 2.0]
    assert side.tolist()[::2] == [2, 1]


def test_bounds_of_a_ball_are_the_tangents_to_it():
    # Centre 2 ahead, radius 1: the tangent leaves the axis by asin(1/2) = 30°.
    low, high = ball_bounds(np.array([[0.0, 0.0, 2.0]]), np.array([1.0]))
    assert high[0] == pytest.approx([np.tan(np.pi / 6)] * 2)
    assert low[0] == pytest.approx([-np.tan(np.pi / 6)] * 2)


def test_bounds_cut_nothing_off():
    """Every pixel asked about every thing gives the same depth as the pixels within the bounds alone."""
    rng = np.random.default_rng(1)
    places = rng.uniform([-3, 0, 0.5], [3, 1, 5], size=(40, 3)).astype(np.float32)
    eye = np.array([[0.3, 1.2, -3]])
    camera = looking_at(eye, np.array([[0, 0.7, 1.0]]), focal=40, height=60, width=60)
    capsules, _ = draw_clutter(1, places, 6, rng)
    scene = a_scene([*zip(capsules.start[0], capsules.end[0], capsules.radius, strict=True)])
    row, column = np.divmod(np.arange(3600), 60)
    count = len(capsules.radius)
    start, end = (camera.from_world(part)[0] for part in (capsules.start, capsules.end))
    right, down = camera.columns(column), camera.rows(row)
    owner = np.repeat(np.arange(count), 3600)
    everywhere, _ = meet_capsules(
        np.tile(right, count), np.tile(down, count), owner, start, end - start, capsules.radius
    )
    nearest = everywhere.reshape(count, 3600).min(axis=0).reshape(60, 60)
    painted = depth_of(scene, camera)
    background = depth_of(a_scene(), camera)
    assert painted == pytest.approx(np.minimum(nearest, background), rel=1e-4)
    assert (nearest < background).sum() > 300


def test_bend_keeps_both_bones_and_points_to_the_pole():
    root, target = np.zeros((1, 3)), np.array([[0, -0.8, 0.0]])
    middle, end = bend(root, target, 0.5, 0.5, np.array([0, 0, 1.0]))
    assert middle[0] == pytest.approx([0, -0.4, 0.3])  # the 3-4-5 triangle
    assert end[0] == pytest.approx([0, -0.8, 0])
    middle, end = bend(root, np.array([[0, -2.0, 0]]), 0.5, 0.5, np.array([0, 0, 1.0]))  # out of reach
    assert np.linalg.norm(end) == pytest.approx(0.999)
    assert np.linalg.norm(middle) == pytest.approx(0.5)


def test_a_standing_figure_has_its_feet_on_the_floor_and_its_head_on_top():
    body = some_body()
    limbs = limbs_of(body, standing(body, 1))
    head = limbs[0][0][0]
    assert head[1] == pytest.approx(body.shoulder_height + 0.04 + body.head + 0.05, abs=1e-4)
    soles = [limb[0][0][1] - limb[2] for limb in limbs if limb[3] == SHOES]
    assert soles == pytest.approx([body.ankle_height - 0.055 * body.girth] * 2, abs=0.02)


def test_a_squat_lowers_the_head_and_a_push_up_keeps_it_low():
    body, phase = some_body(), np.array([0, 0.5], np.float32)
    rng = np.random.default_rng(0)
    heights = []
    for move in (squat, push_up):
        pose = standing(body, 2)
        move(body, pose, phase, rng)
        heights.append(limbs_of(body, pose)[0][0][:, 1])
    assert heights[0][0] - heights[0][1] > 0.4
    assert heights[1].max() < 1.0


@pytest.mark.parametrize("action", sorted(ACTIONS))
def test_every_action_moves_and_stays_above_the_floor(action):
    phase = np.linspace(0, 1, 9, dtype=np.float32)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        body = draw_body(rng)
        pose = standing(body, len(phase))
        ACTIONS[action].move(body, pose, phase, rng)
        limbs = limbs_of(body, pose)
        moving = [limb[0] for limb in limbs] + [ball[0] for ball in pose.balls]
        assert max(np.ptp(path, axis=0).max() for path in moving) > 0.2
        for start, end, radius, _ in limbs:
            assert np.isfinite(start).all()
            assert min(start[:, 1].min(), end[:, 1].min()) - radius > -0.06


def test_the_split_names_actions_once():
    names = [name for part in WORLD_SPLIT.values() for name in part]
    assert {part: len(names) for part, names in WORLD_SPLIT.items()} == {"train": 8, "val": 2, "test": 5}
    assert len(set(names)) == 15
    assert set(names) <= set(ACTIONS)


def test_a_clip_is_the_same_for_the_same_seed_and_moves():
    first, again, other = (
        render_clip("kick", frames=4, height=48, width=64, rng=np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert first.rgb.shape == (4, 48, 64, 3)
    assert first.rgb.dtype == np.uint8
    assert first.depth.shape == (4, 48, 64)
    assert first.depth.dtype == np.float32
    assert np.array_equal(first.rgb, again.rgb)
    assert np.array_equal(first.depth, again.depth)
    assert not np.array_equal(first.rgb, other.rgb)
    nearer = np.abs(np.diff(first.depth, axis=0)) > 0.5  # a limb came before the wall, or left
    assert nearer.reshape(3, -1).any(axis=1).all()


def test_depth_is_positive_and_within_the_room():
    for index, action in enumerate(sorted(ACTIONS)):
        depth = render_clip(action, frames=2, height=32, width=32, rng=np.random.default_rng(index)).depth
        assert depth.min() > 0.2
        assert depth.max() < 20


def test_colours_do_not_tell_the_class():
    """One-way analysis of variance: between classes the mean colour varies no more than chance has it."""
    names, clips = sorted(ACTIONS), 12
    colours = np.array(
        [
            [
                render_clip(name, frames=1, height=24, width=24, rng=np.random.default_rng([9, i, k]))
                .rgb.reshape(-1, 3)
                .mean(axis=0)
                for k in range(clips)
            ]
            for i, name in enumerate(names)
        ]
    )
    between = clips * colours.mean(axis=1).var(axis=0, ddof=1)
    within = colours.var(axis=1, ddof=1).mean(axis=0)
    assert (between / within < 2.1).all()  # F(18, 209): 1% of worlds without any difference lie above 2.0
