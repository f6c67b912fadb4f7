"""BVH files, written here from known SMPL-X poses, come back as these poses; other rest poses and names too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from scipy.spatial.transform import Rotation

import maskmotion as mm
from maskmotion.data.bvh import read_bvh
from maskmotion.data.contents import Contents
from maskmotion.data.importing import import_mocap
from maskmotion.data.joint_names import known_joints
from maskmotion.data.retarget import to_smplx
from maskmotion.motion.kinematics import OFFSETS, forward_kinematics
from maskmotion.motion.rotations import axis_angle_to_6d
from maskmotion.motion.skeleton import JOINTS, PARENTS, joint

BODY = tuple(range(22))
BODY_HANDS = (*BODY, *range(25, 55))
FINGERS = ("index", "middle", "pinky", "ring", "thumb")
MIXAMO = {
    "pelvis": "Hips", "spine1": "Spine", "spine2": "Spine1", "spine3": "Spine2", "neck": "Neck", "head": "Head",
    **{f"{side}_{ours}": f"{side.title()}{theirs}" for side in ("left", "right") for ours, theirs in {
        "hip": "UpLeg", "knee": "Leg", "ankle": "Foot", "foot": "ToeBase", "collar": "Shoulder", "shoulder": "Arm",
        "elbow": "ForeArm", "wrist": "Hand",
        **{f"{finger}{i}": f"Hand{finger.title()}{i}" for finger in FINGERS for i in (1, 2, 3)},
    }.items()},
}  # fmt: skip


def smooth(frames: int, joints: int, seed: int = 0) -> np.ndarray:
    """Smooth axis-angle poses [T, joints, 3]."""
    rng = np.random.default_rng(seed)
    time = np.arange(frames)[:, None, None] / 30
    return 0.5 * np.sin(2 * np.pi * time * rng.uniform(0.1, 0.6, (joints, 3)) + rng.uniform(0, 6, (joints, 3)))


def write_bvh(
    path: Path,
    poses: np.ndarray,
    trans: np.ndarray,
    joints: tuple[int, ...] = BODY,
    names: dict[str, str] = MIXAMO,
    offsets: np.ndarray | None = None,
    order: str = "ZXY",
    fps: float = 30,
    unit: float = 100.0,
) -> Path:
    """SMPL-X rotations of `joints` as a BVH file; the root's position is the pelvis' place."""
    bones = (OFFSETS.double().numpy() if offsets is None else offsets) * unit
    lines, columns = ["HIERARCHY"], []
    euler = Rotation.from_rotvec(poses.reshape(-1, 3)).as_euler(order, degrees=True).reshape(len(poses), -1, 3)

    def block(number: int, depth: int) -> None:
        pad = "  " * depth
        word, place = ("ROOT", "Xposition Yposition Zposition ") if depth == 0 else ("JOINT", "")
        channels = place + " ".join(f"{axis}rotation" for axis in order)
        lines.extend([f"{pad}{word} {names.get(JOINTS[number], JOINTS[number])}", f"{pad}{{"])
        lines.extend([f"{pad}  OFFSET " + " ".join(f"{x:.8f}" for x in bones[number] * (depth > 0)),
                      f"{pad}  CHANNELS {len(channels.split())} {channels}"])  # fmt: skip
        columns.append(euler[:, joints.index(number)])
        children = [child for child in joints if PARENTS[child] == number]
        for child in children:
            block(child, depth + 1)
        if not children:
            lines.extend([f"{pad}  End Site", f"{pad}  {{", f"{pad}    OFFSET 0 1 0", f"{pad}  }}"])
        lines.append(f"{pad}}}")

    block(joints[0], 0)
    values = np.concatenate([(trans + bones[0] / unit) * unit, *columns], axis=1)
    lines += ["MOTION", f"Frames: {len(values)}", f"Frame Time: {1 / fps:.9f}"]
    path.write_text("\n".join(lines + [" ".join(f"{x:.8f}" for x in row) for row in values]) + "\n")
    return path


def matrices(poses: np.ndarray) -> np.ndarray:
    return Rotation.from_rotvec(poses.reshape(-1, 3)).as_matrix().reshape(*poses.shape[:-1], 3, 3)


def places(poses: np.ndarray, trans: np.ndarray) -> torch.Tensor:
    rotations = axis_angle_to_6d(torch.from_numpy(poses.reshape(len(poses), 55, 3)).float())
    return forward_kinematics(rotations, torch.from_numpy(trans).float())


@pytest.mark.parametrize("order", ["ZXY", "XYZ", "ZYX", "YXZ"])
@pytest.mark.parametrize("unit", [1.0, 100.0])
def test_smplx_poses_written_as_bvh_come_back(tmp_path, order, unit):
    poses, trans = smooth(40, len(BODY_HANDS)), smooth(40, 1, 1)[:, 0]
    path = write_bvh(tmp_path / "a.bvh", poses, trans, BODY_HANDS, order=order, unit=unit)
    motion, parts = to_smplx(read_bvh(path))
    assert parts == ("upper", "hands", "lower")
    read = motion.poses.reshape(40, 55, 3)
    assert np.allclose(matrices(read[:, list(BODY_HANDS)]), matrices(poses), atol=1e-6)
    assert not read[:, 22:25].any()
    assert np.allclose(motion.trans, trans, atol=1e-5), "whatever the unit"
    assert motion.fps == pytest.approx(30, abs=1e-4)


def arms_down(poses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Offsets of a skeleton whose zero pose has the arms down, and the poses by which it does the same."""
    arm = ("shoulder", "elbow", "wrist", *(f"{finger}{i}" for finger in FINGERS for i in (1, 2, 3)))
    turns = {
        joint(f"{side}_{name}"): Rotation.from_euler("z", sign * 90, degrees=True).as_matrix()
        for side, sign in (("left", -1), ("right", 1))
        for name in arm
    }
    offsets, local = OFFSETS.double().numpy().copy(), matrices(poses)
    for number in BODY_HANDS:
        above = turns.get(PARENTS[number], np.eye(3))
        offsets[number] = above @ offsets[number]
        place = BODY_HANDS.index(number)
        local[:, place] = above @ local[:, place] @ turns.get(number, np.eye(3)).T
    return offsets, Rotation.from_matrix(local.reshape(-1, 3, 3)).as_rotvec().reshape(poses.shape)


def test_another_rest_pose_gives_the_same_motion(tmp_path):
    poses, trans = smooth(30, len(BODY_HANDS)), smooth(30, 1, 1)[:, 0]
    offsets, turned = arms_down(poses)
    path = write_bvh(tmp_path / "a.bvh", turned, trans, BODY_HANDS, offsets=offsets)
    motion, _ = to_smplx(read_bvh(path))
    whole = np.zeros((30, 55, 3))
    whole[:, list(BODY_HANDS)] = poses
    difference = (places(motion.poses, motion.trans) - places(whole, trans)).norm(dim=-1)
    assert difference.max() < 0.02, "metres; hands follow the forearm's turn, which is a few degrees off the axis"
    plain, _ = to_smplx(read_bvh(write_bvh(tmp_path / "b.bvh", poses, trans, BODY_HANDS, offsets=offsets)))
    assert (places(plain.poses, plain.trans) - places(whole, trans)).norm(dim=-1).max() > 0.3, "the turn matters"


@pytest.mark.parametrize("yaw", [0, 90])
def test_z_up_files_stand_upright(tmp_path, yaw):
    poses, trans = smooth(30, len(BODY)) * 0.3, np.zeros((30, 3))
    world = Rotation.from_euler("xz", [90, yaw], degrees=True)  # y up to z up, and another way to look
    offsets = world.apply(OFFSETS.double().numpy())
    local = world.as_matrix() @ matrices(poses) @ world.as_matrix().T
    turned = Rotation.from_matrix(local.reshape(-1, 3, 3)).as_rotvec().reshape(poses.shape)
    motion, _ = to_smplx(read_bvh(write_bvh(tmp_path / "a.bvh", turned, trans, offsets=offsets)), up="z")
    read = motion.poses.reshape(30, 55, 3)
    assert np.allclose(matrices(read[:, 1:22]), matrices(poses[:, 1:]), atol=1e-6)
    body = places(motion.poses, motion.trans)
    assert (body[:, joint("neck"), 1] - body[:, 0, 1] > 0.2).all()


def test_the_first_frame_can_be_the_rest_pose(tmp_path):
    poses = smooth(30, len(BODY))
    poses[0] = 0
    offsets = OFFSETS.double().numpy()
    odd = Rotation.from_euler("xyz", [40, -70, 20], degrees=True)  # a zero pose that is none
    turned = Rotation.from_matrix((matrices(poses)).reshape(-1, 3, 3)).as_rotvec().reshape(poses.shape)
    turned[:, 0] = (Rotation.from_rotvec(poses[:, 0]) * odd).as_rotvec()
    bones = offsets.copy()
    for number in (1, 2, 3):
        bones[number] = odd.inv().apply(offsets[number])
        turned[:, number] = (odd.inv() * Rotation.from_rotvec(poses[:, number])).as_rotvec()
    path = write_bvh(tmp_path / "a.bvh", turned, np.zeros((30, 3)), offsets=bones)
    read = to_smplx(read_bvh(path), rest="first")[0].poses.reshape(30, 55, 3)
    assert np.allclose(matrices(read[:, :22]), matrices(poses), atol=1e-5)


def test_joints_that_smplx_lacks_count_for_the_next(tmp_path):
    """A file with no spine2 carries the whole bend; one with an extra neck loses nothing of the head."""
    poses = smooth(20, len(BODY))
    kept = tuple(number for number in BODY if number != joint("spine2"))
    path = write_bvh(tmp_path / "a.bvh", poses, np.zeros((20, 3)))
    table = {MIXAMO[JOINTS[number]]: JOINTS[number] for number in kept}
    read = to_smplx(read_bvh(path), table)[0].poses.reshape(20, 55, 3)
    both = matrices(poses[:, joint("spine2")]) @ matrices(poses[:, joint("spine3")])
    assert np.allclose(matrices(read[:, joint("spine3")]), both, atol=1e-6)
    assert np.abs(read[:, joint("spine2")]).max() < 1e-9


UNREAL = ("clavicle", "upperarm", "lowerarm", "hand", "thigh", "calf", "foot", "ball", "index_01", "thumb_01")
SHORT = ("Shoulder", "UpperArm", "ForeArm", "Hand", "Thigh", "Shin", "Foot", "Toe")
FAMILIES = {
    "mixamorig:LeftUpLeg": [f"mixamorig:{theirs}" for theirs in MIXAMO.values()],
    "left_hip": [JOINTS[number] for number in BODY],
    "thigh_l": [
        "pelvis",
        "spine_01",
        "spine_02",
        "neck",
        "head",
        *(f"{bone}_{side}" for side in "lr" for bone in UNREAL),
    ],
    "LThigh": ["Hips", "Spine", "Neck", "Head", *(f"{side}{bone}" for side in "LR" for bone in SHORT)],
}
LIMBS = ("hip", "knee", "ankle", "foot", "collar", "shoulder", "elbow", "wrist")


@pytest.mark.parametrize("left_hip", FAMILIES)
def test_usual_names_are_known(left_hip):
    names = tuple(FAMILIES[left_hip])
    found = known_joints(names)
    assert names[found["left_hip"]] == left_hip
    needed = {f"{side}_{limb}" for side in ("left", "right") for limb in LIMBS} | {"pelvis", "spine1", "neck", "head"}
    assert needed <= set(found)
    assert len({found[one] for one in needed}) == len(needed), "no joint counts twice"


def test_a_tree_of_body_and_speech(tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    for number, (frames, fps) in enumerate(((90, 30), (360, 120))):
        poses = smooth(frames, len(BODY), number)
        write_bvh(source / f"take{number}.bvh", poses, np.zeros((frames, 3)), fps=fps)
        soundfile.write(source / f"take{number}.wav", np.random.default_rng(0).normal(0, 0.1, 3 * 22050), 22050)
    write_bvh(source / "silent.bvh", smooth(30, len(BODY)), np.zeros((30, 3)))
    done = import_mocap(source, tmp_path / "tree")
    assert done.contents == Contents(("upper", "lower"))
    assert len(done.problems) == 1 and "no silent.wav beside it" in done.problems[0]
    corpus = mm.open_corpus(tmp_path / "tree")
    clips = {clip.name: clip for clip in (*corpus.train, *corpus.validation)}
    assert [(name, clip.frames) for name, clip in sorted(clips.items())] == [("1_take0", 90), ("1_take1", 90)]
    assert all(clip.audio is not None for clip in clips.values())


def test_a_table_of_joints_is_checked(tmp_path):
    path = write_bvh(tmp_path / "a.bvh", smooth(5, len(BODY)), np.zeros((5, 3)), names={})
    bvh = read_bvh(path)
    with pytest.raises(ValueError, match="the table names Hip, which the file has not"):
        to_smplx(bvh, {"Hip": "pelvis"})
    with pytest.raises(ValueError, match="no joint named 'hips'"):
        to_smplx(bvh, {"pelvis": "hips"})
    with pytest.raises(ValueError, match="two joints of the file for one"):
        to_smplx(bvh, {"pelvis": "pelvis", "spine1": "pelvis"})
    with pytest.raises(ValueError, match="no joint found for .*left_elbow.* give a table"):
        to_smplx(bvh, {"pelvis": "pelvis"})
    (tmp_path / "table.json").write_text("[1]")
    with pytest.raises(ValueError, match="a table of joints is"):
        import_mocap(path, tmp_path / "tree", joints=tmp_path / "table.json")


def damaged(path: Path, change) -> Path:
    path.write_text(change(path.read_text()))
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[: len(text) // 3], "no MOTION; not a BVH file, or cut short|not BVH"),
        (lambda text: text[: -len(text) // 4].rsplit("\n", 1)[0], "5 frames of 69 values are announced, found"),
        (lambda text: text.replace("Frames: 5", "Frames: 7"), "7 frames of 69 values are announced, found 5 frames"),
        (lambda text: text.replace("Frame Time:", "Time:"), "need `Frames: N` and `Frame Time: SECONDS`"),
        (lambda text: text.replace("CHANNELS 3", "CHANNELS 4", 1), "line 9: not BVH: CHANNELS needs"),
        (lambda text: text.replace("Zrotation", "Wrotation", 1), "CHANNELS needs"),
        (lambda text: text.replace("OFFSET", "OFSET", 1), "unknown word 'OFSET'"),
        (lambda text: text.replace("ROOT", "JOINT", 1), "one ROOT comes first"),
        (lambda text: text.rsplit(" ", 1)[0] + " x\n", "a value of the motion is no number"),
        (lambda text: text.rsplit(" ", 1)[0] + " nan\n", "NaN or infinite values, first in frame 4"),
        (lambda text: "", "no MOTION"),
    ],
)
def test_damaged_files_are_told(tmp_path, change, message):
    path = damaged(write_bvh(tmp_path / "a.bvh", smooth(5, len(BODY)), np.zeros((5, 3))), change)
    with pytest.raises(ValueError, match=message):
        read_bvh(path)


def test_another_library_reads_the_same(tmp_path):
    bvhio = pytest.importorskip("bvhio", reason="bvhio (extra dev) is the oracle of this test")
    path = write_bvh(tmp_path / "a.bvh", smooth(12, len(BODY)), smooth(12, 1, 1)[:, 0])
    mine, theirs = read_bvh(path), bvhio.readAsHierarchy(str(path))
    for frame in (0, 5, 11):
        theirs.loadPose(frame)
        read = {one.Name: one.PositionWorld for one, *_ in theirs.layout()}
        for number, name in enumerate(mine.names):
            assert np.allclose(mine.positions[frame, number], list(read[name]), atol=1e-2), "centimetres"
