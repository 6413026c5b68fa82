"""Where the boxed findings of a study are in the square that the model sees, after the augmentation."""

from training.data.augment import Motion
from training.data.corrections import WORDS
from training.data.images import ImageBank
from training.data.study import Box


def places(images: ImageBank, index: int, motion: Motion | None) -> list[Box]:
    """The boxes of a study's first view in fractions of its square, cut at its border; without those whose middle is
    beyond it. A record that says nothing of sides gets them where findings have them: the patient's left is right.

    motion: of the square; None where it was not augmented.
    """
    found: list[Box] = []
    for box in images.boxes_on_square(index):
        size = images.image_processor.size
        x, y, w, h = box["x"], box["y"], box["w"], box["h"]
        here = ("left" if x + w / 2 > size / 2 else "right") if box["label"] in WORDS["sided"] else None
        if motion:
            x, y, w, h = motion.move_box(x, y, w, h)
        if 0 <= x + w / 2 < size and 0 <= y + h / 2 < size:
            left, top, right, bottom = (min(max(edge, 0.0), size) / size for edge in (x, y, x + w, y + h))
            side = box.get("side", here)
            found.append({**box, "side": side, "x": left, "y": top, "w": right - left, "h": bottom - top})
    return found
