"""Folders of image files on the command line: what `plan` says of them, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.command_line import run_command


@pytest.fixture
def images(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for part, count in (("train", 24), ("test", 8)):
        for name in ("ant", "bee"):
            folder = tmp_path / "images" / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(generator.integers(0, 256, (4, 4, 3), dtype=np.uint8)).save(folder / f"{i}.bmp")
    return tmp_path / "images"


def plan(images: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, str]:
    settings = {"data.name": "image_folder", "data.root": str(images), "data.augmentation": "resized_crop_flip"}
    options = [option for key, value in settings.items() for option in ("--set", f"{key}={value}")]
    arguments = ["plan", "temperature", "--preset", "smoke", *options, "--set", "data.validation_images=4"]
    arguments += ["--set", "data.train_images=40", "--set", "data.test_images=16", "--set", "train.batch_size=8"]
    code = run_command(*arguments, "--runs-dir", images.parent / "runs", *more)
    output = capsys.readouterr()
    return code, output.out + output.err


def test_a_plan_says_what_is_left_out(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "left out" not in plan(images, capsys)[1]
    (images / "train" / "ant" / "._1.png").write_bytes(b"x")
    (images / "train" / "ant" / "notes.txt").write_text("x")
    code, text = plan(images, capsys)
    assert code == 0
    assert "64 image files are used; left out: 1 × .txt, 1 × hidden or system file." in " ".join(text.split())


def test_a_plan_with_files_that_cannot_be_decoded_names_all_of_them(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("train/ant/3.bmp", "test/bee/0.bmp"):
        (images / name).write_bytes((images / name).read_bytes()[:60])
    code, text = plan(images, capsys)
    assert code == 2
    assert "2 of 64 image files" in text
    assert "train/ant/3.bmp cannot be decoded" in text
    assert "test/bee/0.bmp cannot be decoded" in text


def test_each_command_looks_at_the_files_anew(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert plan(images, capsys)[0] == 0
    (images / "test" / "ant" / "5.bmp").write_bytes(b"")
    code, text = plan(images, capsys)
    assert (code, "test/ant/5.bmp is empty" in text) == (2, True)


def test_images_that_are_trained_and_tested_on_are_a_lint(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "repeated-images" not in plan(images, capsys)[1]
    (images / "test" / "ant" / "0.bmp").write_bytes((images / "train" / "bee" / "7.bmp").read_bytes())
    code, text = plan(images, capsys, "--strict")
    assert code == 1
    assert "lint repeated-images in temperature: 1 of the 16 test images of Image folder" in " ".join(text.split())
