"""Scores of a dialogue run, each beside two baselines: always the commonest answer, and the clues without words.

A *system* is a function of the weights `[N]` of the lines -> its scores by name, so one bootstrap over patients serves
all. Uncertain and unknown labels count for nothing; No Finding is what has no other finding, as published.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from evaluation.metrics.classification import auroc, judged_columns, known_f1, mean_auroc, precision_recall_f1, ratio
from evaluation.metrics.corrections import CorrectionCounts, count_correction
from evaluation.metrics.language import language_rows, scores_of_sums
from evaluation.metrics.resampling import interval_text, number_text, patient_bootstrap, with_interval
from evaluation.metrics.short_answers import same_answer, shared_words
from evaluation.metrics.signature import LABELER, signature
from evaluation.metrics.text_normalisation import TREATMENTS
from evaluation.predictions.dialogue_turns import known_findings
from evaluation.reading.labeler import label_report
from evaluation.reading.observations import (
    CHEXPERT_14,
    MISSING,
    NO_FINDING,
    SUPPORT_DEVICES,
    Labels,
    certain,
    tensor_labels,
)
from processing_trrg import check_clues
from training.data.dialogue import single_view
from training.data.study import Study

Line = Mapping[str, Any]
Lines = Sequence[Line]
Scores = dict[str, float]
System = Callable[[np.ndarray], Scores]
Systems = dict[str, System]
MODEL, COMMONEST, CLUES = "model", "commonest", "clues"
FINDINGS = [name for name in CHEXPERT_14 if name != NO_FINDING]
VIEWS = ("frontal", "lateral")


def known_labels(lines: Lines) -> np.ndarray:
    """Labels `[N, 14]`, `MISSING` where uncertain or unknown, and No Finding where devices are all there is: some sets
    call that normal and some do not."""
    labels = np.array([tensor_labels(certain((line["labels"] or {}).get(n) for n in CHEXPERT_14)) for line in lines])
    for row, line in enumerate(lines):
        if known_findings(line["labels"], 1) == [SUPPORT_DEVICES]:
            labels[row, CHEXPERT_14.index(NO_FINDING)] = MISSING
    return labels


def claims_of(named: Sequence[Sequence[str]]) -> np.ndarray:
    """Bool `[N, 14]` of findings that are named; No Finding where there is none."""
    return np.array([[n in some if n != NO_FINDING else not set(FINDINGS) & set(some) for n in CHEXPERT_14]
                     for some in named])  # fmt: skip


def named_findings(answer: str) -> list[str]:
    """The findings whose names stand in an answer, as published."""
    return [name for name in FINDINGS if name.lower() in answer.lower()]


def read_findings(labels: Labels) -> list[str]:
    """The findings that the labeler reads as present."""
    return [name for name in FINDINGS if labels[name] == 1]


def commonest(items: Sequence[Any]) -> Any:
    """The commonest of some things, the first of several; None of none."""
    return Counter(items).most_common(1)[0][0] if items else None


def commonest_findings(train: Lines) -> list[str]:
    """The commonest list of findings of the labelled studies."""
    return list(commonest([tuple(known_findings(one["labels"], 1)) for one in train if one["labels"]]) or ())


def has_clues(lines: Lines) -> bool:
    """Whether the system that wrote them has clues."""
    return bool(lines) and lines[0]["selected_clues"] is not None


def f1_system(labels: np.ndarray, claims: np.ndarray, prefix: str) -> System:
    """Micro, macro and example F1 of claims over the known labels of the columns that have a positive one."""
    columns = np.flatnonzero((labels == 1).any(0))
    labels, claims = labels[:, columns], claims[:, columns]
    present, claimed = labels == 1, claims & (labels != MISSING)
    parts = [cell.sum(1) for cell in (present & claimed, claimed & ~present, present & ~claimed)]
    example, has_any = precision_recall_f1(*parts)["f1"], sum(parts) > 0

    def system(weights: np.ndarray) -> Scores:
        *_, macro, micro = known_f1(labels, claims, weights).tolist()
        mean = float(ratio(weights @ example, weights @ has_any))
        return {f"{prefix}micro_f1": micro, f"{prefix}macro_f1": macro, f"{prefix}example_f1": mean}

    return system


def joined(*systems: System) -> System:
    """One system with the scores of several."""
    return lambda weights: {name: value for system in systems for name, value in system(weights).items()}


def share(counts: np.ndarray, of: np.ndarray, name: str) -> System:
    """The share of counts `[N]` in counts `[N]`; NaN of nothing."""
    return lambda weights: {name: float(weights @ counts / (weights @ of)) if weights @ of else float("nan")}


# ------------------------------------------------------------------------------------------------------------- tasks


def binary_qa(lines: Lines, train: Lines, minimum: int) -> Systems:
    """Accuracy, F1 and AUROC of yes and no; AUROC is the mean over findings with `minimum` studies of either answer.

    `auroc_over_clues` is what the answers' AUROC has over the clues' own, from the same draws of the bootstrap.
    """
    names = FINDINGS
    labels = known_labels(lines)[:, [CHEXPERT_14.index(name) for name in names]]
    asked = np.array([[name in line["binary_qa"] for name in names] for line in lines])
    labels[~asked] = MISSING
    known, judged = labels != MISSING, judged_columns(labels, minimum)

    def system(chances: np.ndarray, yes: np.ndarray) -> System:
        def scores(weights: np.ndarray) -> Scores:
            *_, macro, micro = known_f1(labels, yes, weights).tolist()
            right = (yes == (labels == 1)) & known
            accuracy = float(ratio(weights @ right.sum(1), weights @ known.sum(1)))
            area = float(mean_auroc(chances[:, judged], labels[:, judged], weights)[-1]) if judged else float("nan")
            return {"accuracy": accuracy, "micro_f1": micro, "macro_f1": macro, "auroc": area}

        return scores

    answers = np.array([[line["binary_qa"].get(name, (0.0, False)) for name in names] for line in lines])
    truth = known_labels(train)[:, [CHEXPERT_14.index(name) for name in names]]
    usual = np.broadcast_to((truth == 1).sum(0) > (truth == 0).sum(0), labels.shape)
    direct = share((answers[..., 1].astype(bool) & known).sum(1), known.sum(1), "answered")
    model = system(answers[..., 0], answers[..., 0] >= 0.5)
    systems = {
        MODEL: joined(model, direct),
        COMMONEST: system(usual.astype(float), usual),
    }
    if has_clues(lines):
        scores = np.array([[line["clue_scores"].get(name, 0.0) for name in names] for line in lines])
        chosen = np.array([[name in line["selected_clues"] for name in names] for line in lines])
        systems[CLUES] = clues = system(scores, chosen)

        def over_clues(weights: np.ndarray) -> Scores:
            return {"auroc_over_clues": model(weights)["auroc"] - clues(weights)["auroc"]}

        systems[MODEL] = joined(model, direct, over_clues)
    return systems


def complete_qa(lines: Lines, train: Lines, _minimum: int) -> Systems:
    """F1 of the list of findings, read by the names that stand in it and by the labeler."""
    labels = known_labels(lines)

    def system(named: Sequence[Sequence[str]], read: Sequence[Sequence[str]]) -> System:
        return joined(f1_system(labels, claims_of(named), "names_"), f1_system(labels, claims_of(read), "labeler_"))

    answers = [line["complete_qa"] for line in lines]
    usual = [commonest_findings(train)] * len(lines)
    read = [read_findings(label_report(answer)) for answer in answers]
    systems = {MODEL: system([named_findings(answer) for answer in answers], read), COMMONEST: system(usual, usual)}
    if has_clues(lines):
        chosen = [line["selected_clues"] for line in lines]
        systems[CLUES] = system(chosen, chosen)
    return systems


def obedience(lines: Lines, task: str) -> System:
    """Shares of findings that were added and taken out as asked, and of other sentences that stayed; both also of what
    the model wrote (`obeyed_as_written`, `kept_as_written`), before `kept_but_for`."""

    def counted(answer: str) -> dict[str, np.ndarray]:
        rows = [count_correction(line["report"], {**line[task], "answer": line[task][answer]}) for line in lines]
        return dict(zip(CorrectionCounts._fields, np.array(rows, dtype=np.int64).T, strict=True))

    counts, written = counted("answer"), counted("written")
    return joined(
        share(counts["added"] + counts["removed"], counts["added_asked"] + counts["removed_asked"], "obeyed"),
        share(counts["added"], counts["added_asked"], "obeyed_add"),
        share(counts["removed"], counts["removed_asked"], "obeyed_remove"),
        share(counts["kept"], counts["untouched"], "others_kept"),
        share(
            written["added"] + written["removed"],
            written["added_asked"] + written["removed_asked"],
            "obeyed_as_written",
        ),
        share(written["kept"], written["untouched"], "kept_as_written"),
    )


def synthetic_correction(lines: Lines, _train: Lines, _minimum: int) -> Systems:
    """`obedience` to random requests; there is nothing that the baselines could answer."""
    return {MODEL: obedience(lines, "synthetic_correction")}


def correction(lines: Lines, train: Lines, _minimum: int) -> Systems:
    """F1 of the report's labels before and after the oracle's request, and `obedience`."""
    labels = known_labels(lines)
    read = {
        "before_": [read_findings(label_report(line["report"])) for line in lines],
        "after_": [read_findings(label_report(line["correction"]["answer"])) for line in lines],
    }
    f1 = [f1_system(labels, claims_of(found), prefix) for prefix, found in read.items()]
    usual = claims_of([commonest_findings(train)] * len(lines))
    systems = {
        MODEL: joined(*f1, obedience(lines, "correction")),
        COMMONEST: f1_system(labels, usual, "before_"),
    }
    if has_clues(lines):
        systems[CLUES] = f1_system(labels, claims_of([line["selected_clues"] for line in lines]), "before_")
    return systems


def impression(lines: Lines, train: Lines, _minimum: int) -> Systems:
    """BLEU, ROUGE-L and CIDEr-D (ptb), and F1 of the labels read in the study's own impression."""
    references = [line["record_impression"] for line in lines]
    treat = TREATMENTS["ptb"]
    truth = claims_of([read_findings(label_report(text)) for text in references]).astype(int)

    def system(answers: Sequence[str]) -> System:
        rows = language_rows(list(map(treat, answers)), list(map(treat, references))).columns()
        claims = claims_of([read_findings(label_report(text)) for text in answers])

        def language(weights: np.ndarray) -> Scores:
            scores = scores_of_sums(weights @ rows)
            return {name: float(scores[name]) for name in ("bleu_1", "bleu_4", "rouge_l", "cider_d")}

        return joined(language, f1_system(truth, claims, "label_"))

    usual = commonest([one["record_impression"] for one in train if one["record_impression"]]) or ""
    systems = {MODEL: system([line["impression"] for line in lines]), COMMONEST: system([usual] * len(lines))}
    if has_clues(lines):
        sentences = {clue["name"]: clue["positive"] for clue in check_clues(CHEXPERT_14)}
        said = [[sentences[name] for name in line["selected_clues"] if name in sentences] for line in lines]
        systems[CLUES] = system([" ".join(some) or sentences[NO_FINDING] for some in said])
    return systems


def view(lines: Lines, train: Lines, _minimum: int) -> Systems:
    """Accuracy and macro F1 of frontal and lateral; an answer that names both or neither names no view."""
    labels = np.array([[line["record_view"] == name for name in VIEWS] for line in lines]).astype(int)

    def system(named: Sequence[Sequence[str]]) -> System:
        claims = np.array([[some == [name] for name in VIEWS] for some in named])
        right = (claims & (labels == 1)).any(1)

        def scores(weights: np.ndarray) -> Scores:
            return {"macro_f1": float(known_f1(labels, claims, weights)[-2])}

        return joined(share(right, np.ones(len(lines)), "accuracy"), scores)

    usual = commonest([one["record_view"] for one in train if one["record_view"]])
    named = [[name for name in VIEWS if name in line["view"].lower()] for line in lines]
    return {MODEL: system(named), COMMONEST: system([[usual]] * len(lines))}


def vqa(lines: Lines, train: Lines, _minimum: int) -> Systems:
    """Accuracy and AUROC of questions answered by yes or no; exact match and word F1 of the others; accuracy of all.

    The clues answer a yes-or-no question that names a finding, by the labeler; the others get the commonest answer.
    """
    asked = [(row, one) for row, line in enumerate(lines) for one in line["questions"]]
    given = [answer for line in lines for answer in line["vqa"]]
    place = np.array([row for row, _ in asked])
    closed = np.array([one["answer"].lower() in ("yes", "no") for _, one in asked])
    truth = np.where(closed, [one["answer"].lower() == "yes" for _, one in asked], MISSING)
    past = [one["answer"].lower() for line in train for one in line["questions"]]
    yes_share = float(np.mean([answer == "yes" for answer in past if answer in ("yes", "no")] or [0.5]))
    usual_open = commonest([answer for answer in past if answer not in ("yes", "no")]) or ""

    def system(chances: np.ndarray, yes: np.ndarray, answers: Sequence[str]) -> System:
        exact = np.array([same_answer(one["answer"], answer) for (_, one), answer in zip(asked, answers, strict=True)])
        words = np.array([shared_words(one["answer"], answer) for (_, one), answer in zip(asked, answers, strict=True)])
        right = np.where(closed, yes == (truth == 1), exact)

        def scores(weights: np.ndarray) -> Scores:
            times = weights[place]
            shares = {
                "yes_no_accuracy": (right, closed),
                "open_exact": (exact, ~closed),
                "open_word_f1": (words, ~closed),
            }
            means = {
                name: float(times[of] @ values[of] / times[of].sum()) if times[of].sum() else float("nan")
                for name, (values, of) in shares.items()
            }
            area = auroc(chances, truth, times)
            return means | {"yes_no_auroc": area, "accuracy": float(times @ right / times.sum())}

        return scores

    chances = np.array([answer[0] for answer in given])
    constant = np.full(len(asked), yes_share)
    usual = [usual_open] * len(asked)
    systems = {
        MODEL: system(chances, chances >= 0.5, [answer[2] for answer in given]),
        COMMONEST: system(constant, constant > 0.5, usual),
    }
    if has_clues(lines):
        scores, chosen = constant.copy(), constant > 0.5
        for number, (row, one) in enumerate(asked):
            read = label_report(one["question"])
            named = [name for name in FINDINGS if read[name] is not None and name in lines[row]["clue_scores"]]
            if named:
                scores[number] = max(lines[row]["clue_scores"][name] for name in named)
                chosen[number] = any(name in lines[row]["selected_clues"] for name in named)
        systems[CLUES] = system(scores, chosen, usual)
    return systems


MEASURES: dict[str, Callable[[Lines, Lines, int], Systems]] = {
    "binary_qa": binary_qa,
    "complete_qa": complete_qa,
    "correction": correction,
    "synthetic_correction": synthetic_correction,
    "impression": impression,
    "view": view,
    "vqa": vqa,
}


def record_fields(study: Study, questions: Mapping[str, list]) -> dict[str, Any]:
    """What the scores need of a study's record; the baselines learn from the same fields of the train split."""
    return {
        "patient_id": study.patient_id or study.study_id,
        "labels": study.labels,
        "record_impression": (study.impression or "").strip() or None,
        "record_view": single_view(study),
        "questions": questions.get(study.study_id, []),
    }


def _as_array(system: System, weights: np.ndarray) -> np.ndarray:
    return np.array([*system(weights).values()])


def dialogue_scores(
    lines: Lines, train: Lines, tasks: Sequence[str], minimum: int, resamples: int, seed: int
) -> dict[str, dict[str, Any]]:
    """ "task/score" -> system -> value, low and high (95 %, bootstrap over patients), and the signature.

    Args:
        lines: of the run, with `record_fields`.
        train: `record_fields` of the studies that the commonest answer is taken from.
        tasks: names in `MEASURES`.
        minimum: studies of either answer that a finding needs for its AUROC.
        resamples, seed: of the bootstrap; 0 resamples for no interval.

    Raises:
        ValueError: no study has anything to ask in a task.
    """
    results: dict[str, dict[str, Any]] = {}
    for task in tasks:
        asked = [line for line in lines if line[task] is not None]
        if not asked:
            raise ValueError(f"{task}: none of {len(lines)} studies has in its record what the answer is compared with")
        patients = [line["patient_id"] for line in asked]
        once = np.ones(len(asked))
        for name, system in MEASURES[task](asked, train, minimum).items():
            value = system(once)
            draws = None
            if resamples:
                draws = patient_bootstrap(patients, partial(_as_array, system), resamples, seed)
            for column, (score, number) in enumerate(value.items()):
                row = results.setdefault(f"{task}/{score}", {})
                if np.isnan(number):
                    row[name] = {"value": None, "low": None, "high": None}
                else:
                    row[name] = with_interval(np.asarray(number), None if draws is None else draws[:, column])
                row["signature"] = signature(
                    f"dialogue/{task}/{score}", labeler=LABELER, n=len(asked), patients=len(set(patients)),
                    bootstrap=f"patients-{resamples}", seed=seed,
                )  # fmt: skip
    return results


def table(results: Mapping[str, Mapping[str, Any]], signatures: bool = True) -> str:
    """A Markdown table of `dialogue_scores`, the baselines beside the model."""

    def cell(row: Mapping[str, Any], system: str) -> str:
        return f"{number_text(row[system]['value'])} {interval_text(row[system])}".strip() if system in row else "-"

    rows = [["score", "model", "always the commonest answer", "clues alone", "signature"], ["---"] * 5]
    for name, row in results.items():
        cells = [cell(row, system) for system in (MODEL, COMMONEST, CLUES)]
        rows.append([name, *cells, row["signature"].replace("|", r"\|")])
    return "".join(f"| {' | '.join(row if signatures else row[:-1])} |\n" for row in rows)
