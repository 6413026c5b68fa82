"""The chat in the terminal, by lines from a pipe, and behind the endpoint."""

import base64
import io

import pytest

from hub_cards import demo, publish
from hub_cards.chat import talk
from hub_cards.handler import EndpointHandler, read_messages
from processing_trrg.revised_trrg import COMPARE
from tests.helpers.checkpoints import save_checkpoint
from tests.helpers.paths import ROOT
from tests.helpers.tiny_processors import picture_bytes, radiograph
from training.phantoms.generate import generate_phantom

LINES = """is there an effusion?
/add Edema
/remove Gallstones
/clue Edema=0
/clue Edema=much
/clue Edema=0.1, Fracture=0
/clues
/ground
/correct write it shorter

/nothing
/report
/quit
never read
"""


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """A checkpoint, and what the demo leaves of it."""
    out = tmp_path_factory.mktemp("chat")
    return save_checkpoint(out / "trrg-random", "trrg"), out


def test_a_chat_by_lines_from_a_pipe(shown, tmp_path, monkeypatch, capsys):
    checkpoint, out = shown
    (picture := tmp_path / "a.png").write_bytes(picture_bytes(radiograph()))
    monkeypatch.setattr("sys.stdin", io.StringIO(LINES))
    demo.main([str(picture), "--out", str(out / "demo"), "--checkpoint", str(checkpoint), "--chat"])
    printed = capsys.readouterr()
    told = printed.out.partition("/quit\n")[2]
    for line in LINES.partition("/quit")[0].splitlines():
        assert f"> {line}\n" in told
    assert "never read" not in told and not printed.err
    assert "> /ground\n" in told and "0.10 Edema" in told.partition("> /clues\n")[2]
    assert "Not done: Edema" in told and "names no finding" in told
    for reason in (
        "'Gallstones' is no finding",
        "/clue Edema=0, got 'Edema=much'",
        "no words",
        "/nothing is no command",
    ):
        assert told.count(reason) == 1


def test_an_answer_is_broken_off_and_the_chat_goes_on(monkeypatch, capsys):
    class Study:
        text = "clear."

        def ask(self, *_, **__):
            raise KeyboardInterrupt

    monkeypatch.setattr("sys.stdin", io.StringIO("is it large?\n/report\n"))
    talk(Study(), None)
    assert capsys.readouterr().out.splitlines()[-3:-1] == ["> /report", "clear."]


def test_the_endpoint_answers_the_last_message(shown, tmp_path):
    checkpoint, _ = shown
    publish.assemble(checkpoint, tmp_path / "trrg-random")
    endpoint = EndpointHandler(str(tmp_path / "trrg-random"))
    study = {"images": [base64.b64encode(picture_bytes(radiograph())).decode()]}
    first = endpoint({"inputs": {**study, "messages": [{"role": "user", "content": "is it large?"}]}})
    assert [turn["role"] for turn in first["messages"]] == ["assistant", "user", "assistant"]
    assert first["messages"][0]["content"] == first["text"] and first["messages"][2]["content"] == first["answer"]
    chat = [{"role": "assistant", "content": "findings: clear."}, {"role": "user", "content": "is it large?"}]
    second = endpoint({"inputs": {**study, "messages": chat}})
    chat[0]["name"] = "report"
    assert second["text"] == "findings: clear." and second["messages"][:2] == chat
    third = [*second["messages"], {"role": "user", "content": "and now?"}]
    assert endpoint({"inputs": {**study, "messages": third}})["messages"][:4] == third


PRIOR = "Severe cardiomegaly. Large left pleural effusion. Large right pneumothorax. No nodule."


def test_a_chat_sent_back_to_the_endpoint_is_about_the_same_report():
    """Also where that was compared with a prior, which is then a turn of the chat."""
    endpoint = EndpointHandler(str(ROOT / "hub_cards" / "trrg-small"))
    phantom = generate_phantom(7, 0, size=256).image
    study = {"images": [base64.b64encode(picture_bytes(phantom)).decode()], "prior_report": PRIOR}
    asked = [{"role": "user", "content": "Is there edema?"}]
    first = endpoint({"inputs": {**study, "messages": asked}})
    assert first["complete"] is True
    cut = endpoint({"inputs": study, "parameters": {"max_new_tokens": 5}})
    assert cut["complete"] is False
    assert any(turn["content"].startswith(COMPARE) for turn in first["messages"])
    second = endpoint({"inputs": {**study, "messages": [*first["messages"], *asked]}})
    assert second["text"] == first["text"] and second["messages"][: len(first["messages"])] == first["messages"]


@pytest.mark.parametrize(
    "messages",
    ["hello", [{"role": "system", "content": "x"}], [{"role": "user"}], [{"role": "user", "content": "x" * 9999}],
     [{"role": "assistant", "content": "clear"}], [{"role": "user", "content": "x"}] * 2, [None] * 99],
    ids=lambda messages: str(messages)[:30],
)  # fmt: skip
def test_the_endpoint_says_what_is_wrong_with_a_chat(messages):
    with pytest.raises(ValueError, match=r"^inputs\.messages"):
        read_messages(messages)
