"""What a user of the Hub does, run by publish.py in a process that cannot import this project.

Started as `python -I -S clean_process.py`: no site-packages, no `.pth` file (an editable install is one), no PYTHONPATH
and not this folder. The installed packages come back through `--site`, which processes no `.pth` file.
"""

import argparse
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

PROJECT_PACKAGES = ("configuration_trrg", "modeling_trrg", "processing_trrg")


def parse_args() -> argparse.Namespace:
    """The options that publish.py gives."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", help="checkpoint folder, or the name of a repository in the Hub cache")
    parser.add_argument("--site", nargs="+", required=True, help="site-packages folders")
    parser.add_argument("--image", required=True, help="radiograph to report on")
    parser.add_argument("--indication", required=True)
    parser.add_argument("--max-new-tokens", type=int, required=True)
    parser.add_argument("--results", type=Path, required=True, help="folder for outputs.safetensors and report.json")
    parser.add_argument("--revision", help="commit of the repository")
    parser.add_argument("--save-again", type=Path, help="folder for save_pretrained of what was loaded")
    return parser.parse_args()


def check_clean() -> None:
    """Stop where this process could import the project.

    Raises:
        SystemExit: names the packages it found.
    """
    found = [name for name in PROJECT_PACKAGES if importlib.util.find_spec(name) is not None]
    if found:
        raise SystemExit(
            f"not a clean process: it can import {', '.join(found)}; only a checkout or an editable install"
        )


def load(source: str, revision: str | None) -> tuple[Any, Any, Any, Any]:
    """Returns config, processor, base model and generating model of `source`, all by Auto* and remote code.

    Raises:
        SystemExit: a class came from elsewhere than the checkpoint's own code, or a weight is missing or left over.
    """
    from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText, AutoProcessor

    chosen: dict[str, Any] = {"revision": revision, "trust_remote_code": True}
    config = AutoConfig.from_pretrained(source, **chosen)
    processor = AutoProcessor.from_pretrained(source, **chosen)
    base = AutoModel.from_pretrained(source, **chosen)
    loaded: Any = AutoModelForImageTextToText.from_pretrained(source, output_loading_info=True, **chosen)
    model, info = loaded
    for part in (config, processor, base, model):
        if not type(part).__module__.startswith("transformers_modules."):
            raise SystemExit(f"{type(part).__name__} came from {type(part).__module__}, not from the checkpoint's code")
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[problem]:
            raise SystemExit(f"{source}: {problem}: {sorted(info[problem])[:5]}")
    return config, processor, base, model


def main() -> None:
    """Load, compute, and write what was computed to `--results`, for publish.py to compare."""
    args = parse_args()
    sys.path.extend(args.site)
    check_clean()

    import torch
    from safetensors.torch import save_file
    from transformers import pipeline

    config, processor, base, model = load(args.source, args.revision)
    base.eval()
    model.eval()
    inputs = processor(images=args.image, indication=args.indication, return_tensors="pt")
    with torch.inference_mode():
        logits = model(**inputs).logits
        hidden = base(**inputs).last_hidden_state
        study = model.read_study(**inputs)
        generated = model.generate(**inputs, study=study, max_new_tokens=args.max_new_tokens, do_sample=False)
    report = processor.post_process_report(generated, inputs, study, abstain=False)[0]
    write = pipeline("radiology-report", model=args.source, revision=args.revision, trust_remote_code=True)
    decoding: dict[str, Any] = {"max_new_tokens": args.max_new_tokens, "do_sample": False}
    piped = write(args.image, indication=args.indication, **decoding, abstain=False, revise=False)
    if not processor.says_findings and piped.text != report.text:
        raise SystemExit(f"pipeline('radiology-report') writes {piped.text!r}, generate {report.text!r}")

    answer = piped.ask("Is there a pleural effusion?", max_new_tokens=args.max_new_tokens, do_sample=False)

    args.results.mkdir(parents=True)
    said = torch.tensor([0, *answer.encode()])
    outputs = {"logits": logits, "last_hidden_state": hidden, "generated": generated, "answer": said}
    if study.clue_scores is not None:
        outputs["clue_scores"] = study.clue_scores
    save_file({name: tensor.contiguous() for name, tensor in outputs.items()}, args.results / "outputs.safetensors")
    classes = [
        f"{type(part).__module__.rsplit('.', 1)[-1]}.{type(part).__name__}" for part in (config, processor, base, model)
    ]
    (args.results / "report.json").write_text(
        json.dumps({"text": report.text, "answer": answer, "classes": classes}), encoding="utf-8"
    )
    if args.save_again is not None:
        model.save_pretrained(args.save_again)
        processor.save_pretrained(args.save_again)


if __name__ == "__main__":
    main()
