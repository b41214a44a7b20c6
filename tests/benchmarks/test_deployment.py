"""The page of deployment gets its table, once, in place of the one before."""

from __future__ import annotations

import torch

from benchmarks.deployment import BEGIN, END, PAGE, Deployment, table, with_measurements


def test_the_table_replaces_the_one_before() -> None:
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    once = with_measurements(page, "new")
    assert once == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    assert with_measurements(once, "new") == once


def test_the_page_has_its_place_for_the_table() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page.count(BEGIN) == page.count(END) == 1
    assert page.index(BEGIN) < page.index(END)


def test_what_is_simulated_has_neither_size_nor_time() -> None:
    stored = Deployment("static", "onnxruntime", torch.clone, 12_345)
    simulated = Deployment("static", "simulated", torch.clone, 0)
    lines = table([(stored, 81.25, 0.0012345), (simulated, 80.0, 9.9)]).splitlines()
    assert lines[2] == "| static | onnxruntime | 12 | 1.23 | 81.2 |"
    assert lines[3] == "| static | simulated | – | – | 80.0 |"
