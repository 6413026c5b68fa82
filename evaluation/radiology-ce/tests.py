"""Cases of the Space; `result` holds the scores that must come out. The reports are made up."""

test_cases = [
    {
        "predictions": ["Small left pleural effusion. No pneumothorax.", "The lungs are clear."],
        "references": ["Left pleural effusion. No pneumothorax.", "Left lower lobe pneumonia."],
        "result": {"miura/micro_5_f1": 1.0, "r2gen/micro_14_precision": 0.5, "r2gen/micro_14_recall": 0.5},
    },
    {
        "predictions": ["Possible pneumonia."],
        "references": ["Pneumonia."],
        "result": {"r2gen/micro_14_f1": 0.0, "miura/micro_14_f1": 1.0},
    },
    {
        "predictions": ["", ""],
        "references": ["Mild cardiomegaly.", "No acute disease."],
        "result": {"r2gen/micro_14_recall": 0.0, "f1chexbert/exact_match_5": 0.5},
    },
]
