"""A clue and its parent agree: "Pleural Effusion" scores at least as much as "Left Pleural Effusion"."""

import pytest
import torch

from modeling_trrg import TRRGForConditionalGeneration, clue_trrg
from modeling_trrg.clue_trrg import raise_parents
from processing_trrg.prompt_trrg import check_clues
from tests.helpers.models import build, studies

PARENTS = torch.tensor([-1, 0, 1, -1])  # a chain of three, and one alone


@pytest.fixture
def model(tiny_config):
    return build(tiny_config("trrg"))


@torch.no_grad()
def test_a_parent_scores_at_least_as_much_as_its_highest_child(model):
    inputs = studies(model.config, views=(1, 2), text=(5, 7))
    alone = model.read_study(**inputs).clue_scores
    raised = model.read_study(**inputs, clue_parents=PARENTS).clue_scores
    assert (alone[:, 0] < alone[:, 1:3].amax(1)).any(), "nothing to raise: the test could not fail"
    torch.testing.assert_close(raised[:, 0], alone[:, :3].amax(1))
    torch.testing.assert_close(raised[:, 1], alone[:, 1:3].amax(1))
    torch.testing.assert_close(raised[:, 2:], alone[:, 2:])


@torch.no_grad()
def test_the_order_of_the_clues_does_not_matter(model):
    inputs = studies(model.config, views=(1, 2), text=(5, 7))
    order = torch.tensor([2, 0, 3, 1])
    place = torch.argsort(order)  # where a clue went
    parents = torch.tensor([-1 if parent < 0 else int(place[parent]) for parent in PARENTS[order]])
    moved = {name: inputs[name][:, order] for name in ("clue_input_ids", "clue_attention_mask")}
    first = model(**inputs, clue_parents=PARENTS)
    second = model(**inputs | moved, clue_parents=parents)
    torch.testing.assert_close(first.clue_scores[:, order], second.clue_scores)
    torch.testing.assert_close(first.logits, second.logits)


def test_parents_in_the_wrong_order_of_a_chain():
    scores = torch.tensor([[0.1, 0.2, 0.9, 0.3]])
    raised = raise_parents(scores, torch.tensor([1, 3, 0, -1]))
    torch.testing.assert_close(raised, torch.tensor([[0.9, 0.9, 0.9, 0.9]]))


@torch.no_grad()
def test_the_checkpoints_own_clues_know_their_parents(model, tmp_path):
    inputs = studies(model.config)
    pairs = zip(inputs["clue_input_ids"], inputs["clue_attention_mask"], strict=True)
    rows = [[row[keep.bool()].tolist() for row, keep in zip(ids, mask, strict=True)] for ids, mask in pairs]
    expected = model.read_study(**inputs, clue_parents=PARENTS).clue_scores
    model.config.clue_token_ids, model.config.clue_parents = rows, PARENTS.tolist()
    model.save_pretrained(tmp_path)
    saved = TRRGForConditionalGeneration.from_pretrained(tmp_path).eval()
    own = {name: inputs[name] for name in ("pixel_values", "image_mask")}
    torch.testing.assert_close(saved.read_study(**own).clue_scores, expected)


@pytest.mark.parametrize("parents", [[0, 1], [-1, -1, -1, 4]])
def test_parents_that_are_no_clues_are_refused(model, tiny_config, parents):
    with pytest.raises(ValueError, match=r"clue_parents is .*; expected, for each of 4 clues"):
        model.read_study(**studies(model.config), clue_parents=torch.tensor(parents))
    with pytest.raises(ValueError, match="clue_parents"):
        tiny_config("trrg", clue_token_ids=[[[5], [6], [7], [8]]] * 2, clue_parents=parents)


def test_a_parent_is_another_clue_of_the_list():
    sided = {"name": "Left Hernia", "positive": "There is a left hernia.", "parent": "Hernia"}
    assert check_clues(["Hernia", sided])[1]["parent"] == "Hernia"
    for clues in ([sided], ["Hernia", sided | {"parent": "Left Hernia"}]):
        with pytest.raises(ValueError, match="the parent of 'Left Hernia' is"):
            check_clues(clues)


@torch.no_grad()
def test_a_long_list_is_read_in_batches_of_one_length_and_gives_the_same(model, monkeypatch):
    inputs = {name: value for name, value in studies(model.config, count=150).items() if name.startswith("clue_")}
    mask = inputs["clue_attention_mask"]
    mask[:, :, 1:] = 0
    mask[:, ::50] = 1  # three long sentences among short ones
    mask[:, 7] = 0  # and a row that only pads
    read, embed = [], model.model.embed_sentences
    monkeypatch.setattr(model.model, "embed_sentences", lambda ids, rows: read.append(ids.numel()) or embed(ids, rows))
    found = model.model.encode_clues(**inputs)
    monkeypatch.setattr(clue_trrg, "SENTENCES_AT_ONCE", 1000)
    model.train().eval()  # forgets the bank
    whole = model.model.encode_clues(**inputs)
    assert len(read) == 2 * 3 + 2 and sum(read[:6]) < 0.6 * sum(read[6:])
    for name in ("vectors", "negative_vectors"):
        torch.testing.assert_close(getattr(found, name), getattr(whole, name))
    kept = whole.token_mask
    assert torch.equal(found.token_mask, kept) and torch.equal(found.valid, whole.valid)
    torch.testing.assert_close(found.tokens[kept], whole.tokens[kept])
